//! The io_uring back end.
use crate::{BufferPool, Config, Event, IoError, Op, OpenError, Waker};
use std::time::Duration;
#[derive(Debug)]
/// io_uring.
pub struct Uring {
    pool: BufferPool,
    waker: Waker,
}
impl Uring {
    pub(crate) fn open(_config: &Config) -> Result<Self, OpenError> {
        Err(OpenError::Missing)
    }
    pub(crate) fn features(&self) -> Vec<&'static str> {
        Vec::new()
    }
    pub(crate) fn turn(
        &mut self,
        _o: &mut Vec<Op>,
        _t: Option<Duration>,
        _e: &mut Vec<Event>,
    ) -> Result<(), IoError> {
        Ok(())
    }
    pub(crate) fn buffers(&self) -> &BufferPool {
        &self.pool
    }
    pub(crate) fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
