"""Stores and fetches a file in every notation, in one session: server, family, source address, name, password."""

import ftplib
import io
import socket
import sys

server, family, source, user, password = sys.argv[1:]
goods = bytes(range(256)) * 40


class Session(ftplib.FTP):
    """ftplib, told which notation to use."""

    notation = "PASV"

    def makepasv(self):
        if self.notation == "EPSV":
            return ftplib.parse229(self.sendcmd("EPSV"), self.sock.getpeername())
        return ftplib.parse227(self.sendcmd("PASV"))

    def makeport(self):
        listener = socket.create_server((self.sock.getsockname()[0], 0), family=self.af, backlog=1)
        host, port = listener.getsockname()[:2]
        if self.notation == "EPRT":
            self.sendeprt(host, port)
        else:
            self.sendport(host, port)
        listener.settimeout(self.timeout)
        return listener


ftp = Session(timeout=15, source_address=(source, 0))
ftp.connect(server)
ftp.login(user, password)
for notation in ["EPSV", "EPRT"] + (["PASV", "PORT"] if family == "4" else []):
    ftp.notation = notation
    ftp.set_pasv(notation in ("PASV", "EPSV"))
    try:
        ftp.storbinary("STOR " + notation, io.BytesIO(goods))
        fetched = io.BytesIO()
        ftp.retrbinary("RETR " + notation, fetched.write)
        assert fetched.getvalue() == goods, "another file"
    except Exception as error:
        sys.exit(f"{notation}: {error!r}")
ftp.quit()
