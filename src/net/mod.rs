//! Sockets: the only calls to the kernel that are about connections rather than pinholes.
