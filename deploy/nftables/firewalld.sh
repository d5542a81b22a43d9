#!/bin/sh
# A transparent gate on a router with firewalld. The zones are those of the clients' and the servers' interfaces, and the ranges those of
# the rules file.
set -e
clients=internal
servers=external
inbound=10001-10005
outbound=20000-20099

# Connections that are handed over keep their ports. Not `--add-service=ftp`: this would have the kernel's own FTP helper read the
# same lines as the gate.
firewall-cmd --permanent --zone="$clients" --remove-service=ftp
firewall-cmd --permanent --zone="$clients" --add-port=21/tcp --add-port="$inbound/tcp"
firewall-cmd --permanent --zone="$servers" --add-port="$outbound/tcp"
firewall-cmd --reload
# firewalld has no words for marks. Where it does not own its table (NftablesTableOwner=no in firewalld.conf) this lets data connections
# go through the kernel, until it loads its rules again; otherwise the relay moves the data.
nft insert rule inet firewalld filter_FORWARD ct mark and 0xffe0 == 0x2140 accept ||
	echo "the relay moves the data" >&2
