//! Health checks: they are no sessions, and there is room for some at a time.

use super::Counts;

/// How many are answered at a time, all listeners together.
const MOST: usize = 64;

/// A health check that is being answered; dropped, there is room for another.
#[derive(Debug)]
pub struct HealthCheck(Counts);

impl Counts {
    /// A health check came; `None` where there is no room for it.
    #[must_use]
    pub fn check(&self) -> Option<HealthCheck> {
        let mut crowds = self.lock();
        if crowds.health_checks >= MOST {
            return None;
        }
        crowds.health_checks += 1;
        Some(HealthCheck(self.clone()))
    }
}

impl Drop for HealthCheck {
    fn drop(&mut self) {
        let mut crowds = self.0.lock();
        crowds.health_checks = crowds.health_checks.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_again_for_each_that_is_over() {
        let counts = Counts::default();
        let mut some: Vec<_> = (0..MOST).filter_map(|_| counts.check()).collect();
        assert_eq!(some.len(), MOST);
        assert!(counts.check().is_none());
        some.pop();
        assert!(counts.check().is_some());
    }
}
