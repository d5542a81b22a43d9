//! Sockets: the only calls to the kernel that are about connections rather than pinholes.

mod descriptors;
mod local;
mod locals;
mod loops;
mod names;
pub(crate) mod netlink;
mod open;
mod options;
pub mod proxy_header;
mod translation;

pub use descriptors::close_inherited;
pub use local::{ephemeral_ports, is_local, leads_here, may_be_transparent, may_change_network};
pub use locals::Locals;
pub use loops::{Accepted, Dialled, IsLoop, Loops};
pub use names::{NameError, Names};
pub use open::{CONTROL_BACKLOG, NoAnswer, accept, dial, dial_prepared, listen, listen_in_place_of, listen_prepared};
pub use options::{
    Shortage, file_limits, has_urgent, keep_alive, original_dst, prepare_control, prepare_data, raise_file_limit,
    reset_on_close, try_send_urgent,
};
pub use translation::{Tracked, Translations};
