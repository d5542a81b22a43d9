#!/bin/sh
# A gate beside Docker, which drops what is forwarded and leaves the chain DOCKER-USER to you. Without this the relay moves the data.
# Run it after Docker has started; it may be run again. Docker also sets net.bridge.bridge-nf-call-iptables=1: clients that come
# over a bridge need `transparent: redirect`.
set -e
for iptables in iptables ip6tables; do
	chain=DOCKER-USER
	"$iptables" -n -L "$chain" >/dev/null 2>&1 || chain=FORWARD
	# The data connections that ftpgate leads through the kernel, and no others.
	accept="-m connmark --mark 0x2140/0xffe0 -j ACCEPT"
	"$iptables" -C "$chain" $accept 2>/dev/null || "$iptables" -I "$chain" $accept
done
