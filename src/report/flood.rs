//! Lines that peers cause: so many for each client address, and the number of those that were left out.

use std::net::IpAddr;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use tracing::warn;

use crate::limits::{LeftOut, LineKind, Lines};

static LINES: LazyLock<Mutex<Lines>> = LazyLock::new(Mutex::default);

/// Whether another line may be written because of this client. One that may not is counted.
pub(super) fn may_write(kind: LineKind, client: IpAddr) -> bool {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).may_write(kind, client, Instant::now())
}

/// Counts a line that is not written, since the one that it belongs to was not either.
pub(super) fn leave_out(client: IpAddr) {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).leave_out(client, Instant::now());
}

/// Says how many lines were left out since the last time. To be called now and then.
pub fn lines_left_out() {
    let LeftOut { named, others, other_addresses } = LINES.lock().unwrap_or_else(PoisonError::into_inner).left_out();
    for (client, times) in named {
        warn!(event = "lines_left_out", %client, times, advice = "this client caused too many lines; `sessions_per_minute`, \
            `commands_per_second` and a firewall keep it away", "lines about this client were not logged");
    }
    if others > 0 {
        warn!(
            event = "lines_left_out",
            clients = other_addresses,
            times = others,
            "lines about more clients were not logged"
        );
    }
}
