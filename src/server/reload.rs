//! Reads the rules file again, on a thread of its own: a slow disk or a hundred thousand rules must not keep the gate from
//! hearing SIGTERM.

use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use crate::policy::Policy;
use crate::report;

/// Reads the rules file again; the text says what is wrong with it.
pub type Reread = Arc<dyn Fn() -> Result<Policy, String> + Send + Sync>;

/// Rules are read as deep as on the main thread, which has this much by default.
const STACK: usize = 8 << 20;

/// One reading at a time. What is asked for meanwhile is one more reading, however often it is asked for.
pub(super) struct Reload {
    reread: Reread,
    reading: Option<oneshot::Receiver<Result<Policy, String>>>,
    once_more: bool,
}

impl Reload {
    pub(super) fn new(reread: Reread) -> Self {
        Self { reread, reading: None, once_more: false }
    }

    /// Begins to read, or reads once more when the reading that goes on is done: it may have missed what is asked for.
    pub(super) fn start(&mut self) {
        if self.reading.is_some() {
            self.once_more = true;
            return;
        }
        let (done, reading) = oneshot::channel();
        let reread = Arc::clone(&self.reread);
        let read = move || {
            // Nobody waits for it where the gate ends meanwhile.
            let _unwanted = done.send(reread());
        };
        if let Err(error) = thread::Builder::new().name("reload".to_owned()).stack_size(STACK).spawn(read) {
            report::system("no thread can be started to read the rules", &error);
        }
        self.reading = Some(reading);
    }

    /// The next reading's result. Waits for ever where nothing is being read; may be dropped and asked again.
    pub(super) async fn read(&mut self) -> Result<Policy, String> {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        let read = reading.await;
        self.reading = None;
        if std::mem::take(&mut self.once_more) {
            self.start();
        }
        read.unwrap_or_else(|_| Err("ftpgate: the thread that reads the rules ended before it was done".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_while_it_reads_is_one_more_reading() {
        let count = Arc::new(AtomicUsize::new(0));
        let (go, wait) = mpsc::channel::<()>();
        let (counted, wait) = (Arc::clone(&count), std::sync::Mutex::new(wait));
        let mut reload = Reload::new(Arc::new(move || {
            let _ = wait.lock().unwrap().recv();
            Err(format!("reading {}", counted.fetch_add(1, Ordering::SeqCst)))
        }));
        assert!(tokio::time::timeout(Duration::from_millis(20), reload.read()).await.is_err());
        for _ in 0..5 {
            reload.start();
        }
        assert!(tokio::time::timeout(Duration::from_millis(20), reload.read()).await.is_err());
        go.send(()).unwrap();
        assert_eq!(reload.read().await.unwrap_err(), "reading 0");
        go.send(()).unwrap();
        assert_eq!(reload.read().await.unwrap_err(), "reading 1");
        assert!(tokio::time::timeout(Duration::from_millis(20), reload.read()).await.is_err());
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_panic_while_reading_is_a_failure() {
        let mut reload = Reload::new(Arc::new(|| panic!("on purpose")));
        reload.start();
        assert!(reload.read().await.unwrap_err().contains("ended before it was done"));
    }
}
