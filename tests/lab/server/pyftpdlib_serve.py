"""A pyftpdlib server on port 21, both families: USER PASSWORD HOME [COMMAND-IT-DOES-NOT-KNOW...]."""

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer

user, password, home, *unknown = sys.argv[1:]
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_user(user, password, home, perm="elradfmwMT")
for verb in unknown:
    del FTPHandler.proto_cmds[verb]
FTPHandler.passive_ports = range(30000, 31000)
# With one loop for all, sessions stall beside each other in active mode.
ThreadedFTPServer(("::", 21), FTPHandler).serve_forever()
