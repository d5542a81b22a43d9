"""One visit with Python's ftplib, in the current folder: SERVER MODE USER PASSWORD."""

import ftplib
import os
import sys

server, mode, user, password = sys.argv[1:]
ftp = ftplib.FTP(timeout=15)
ftp.set_debuglevel(1)
ftp.connect(server)
ftp.login(user, password)
ftp.set_pasv(mode == "passive")
ftp.dir()


def upload(source, target):
    with open(source, "rb") as file:
        ftp.storbinary(f"STOR {target}", file)


def download(source, target, rest=None):
    with open(target, "wb" if rest is None else "ab") as file:
        ftp.retrbinary(f"RETR {source}", file.write, rest=rest)


names = sorted(os.listdir("out/small"))
upload("out/big.bin", "inbox/big.bin")
for name in names:
    upload(f"out/small/{name}", f"inbox/small/{name}")
download("shelf/big.bin", "in/big.bin")
for name in names:
    download(f"shelf/small/{name}", f"in/small/{name}")
download("shelf/big.bin", "resumed/big.bin", rest=os.path.getsize("resumed/big.bin"))
ftp.delete("doomed.txt")
ftp.quit()
