"""One scenario with Python's ftplib, in the current folder: HOST USER PASSWORD SCENARIO."""

import ftplib
import io
import sys

host, user, password, scenario = sys.argv[1:]
# я is 0xFF in CP1251, and with т or э behind it a Telnet command. ftplib sends one byte for each character of Latin-1.
NAME = "объятия яя яэх.txt".encode("cp1251").decode("latin-1")


def session():
    ftp = ftplib.FTP(timeout=8, encoding="latin-1")
    ftp.set_debuglevel(1)
    ftp.connect(host)
    ftp.login(user, password)
    return ftp


def fetch(ftp, name):
    taken = io.BytesIO()
    ftp.retrbinary(f"RETR {name}", taken.write)
    return taken.getvalue()


def names(ftp):
    ftp.storbinary(f"STOR inbox/{NAME}", io.BytesIO(b"text" * 250))
    assert fetch(ftp, f"inbox/{NAME}") == b"text" * 250
    ftp.rename(f"inbox/{NAME}", f"inbox/2{NAME}")
    ftp.storbinary(f"STOR inbox/{NAME}", io.BytesIO(b""))
    ftp.delete(f"inbox/{NAME}")


def listing(ftp):
    ftp.storbinary(f"STOR inbox/{NAME}", io.BytesIO(b"text" * 250))
    assert NAME in "\n".join(ftp.nlst("inbox")), "the name is not listed"


def read_until(ftp, code):
    while ftp.getmultiline()[:3] != code:
        pass


def keepalive(ftp):
    ftp.voidcmd("TYPE I")
    sent, taken = 0, 0
    with ftp.transfercmd("RETR shelf/big.bin") as data:
        while block := data.recv(65536):
            taken += len(block)
            if taken // (2 << 20) > sent:
                ftp.putcmd("NOOP")
                sent += 1
    # Some servers do not know NOOP in the middle of a transfer, or take two for one.
    read_until(ftp, "226")
    ftp.putcmd("SYST")
    read_until(ftp, "215")
    assert taken == 8 << 20, f"{taken} bytes"


def abort(ftp):
    ftp.voidcmd("TYPE I")
    data = ftp.transfercmd("RETR shelf/big.bin")
    data.recv(65536)
    data.close()
    ftp.abort()
    # What is left to be said of the transfer comes first.
    ftp.putcmd("SYST")
    read_until(ftp, "215")


ftp = session()
{"names": names, "listing": listing, "keepalive": keepalive, "abort": abort}[scenario](ftp)
# The session goes on as if nothing had been.
assert ftp.pwd()
assert len(fetch(ftp, "shelf/small/01.txt")) == 600
ftp.quit()
