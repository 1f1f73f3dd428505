//! The time, as the wire and the files want it.

use std::io;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;

use crate::sys;

/// Now: RFC 3339, UTC, at most 6 fractional digits (some clients read no more).
#[must_use]
pub fn now() -> String {
    text(Timestamp::now())
}

/// A moment, written like [`now`].
#[must_use]
pub fn text(moment: Timestamp) -> String {
    format!("{moment:.6}")
}

/// How long it is until a wall clock that cannot be watched is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Ends at the time that `next` tells. It is asked again when the clock was set, as it is
/// after a virtual machine was resumed. If there is no such time, this does not end.
pub async fn until(next: impl Fn() -> Option<SystemTime>) {
    loop {
        let Some(time) = next() else {
            return std::future::pending().await;
        };
        match at(time).await {
            Ok(true) => return,
            Ok(false) => tracing::debug!("the clock was set"),
            Err(error) => {
                tracing::warn!(%error, "cannot watch the clock");
                let left = time.duration_since(SystemTime::now()).unwrap_or_default();
                tokio::time::sleep(left.min(LOOK_AGAIN)).await;
                if left <= LOOK_AGAIN {
                    return;
                }
            }
        }
    }
}

/// Ends at `time`, with true, or with false when the clock was set before that.
async fn at(time: SystemTime) -> io::Result<bool> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.map_err(io::Error::other)?;
    let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
    let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
    let zero = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let value = Timespec {
        tv_sec: i64::try_from(since.as_secs()).map_err(io::Error::other)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    let setting = Itimerspec {
        it_interval: zero,
        it_value: value,
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(&timer, flags, &setting)?;
    let timer = sys::watch(timer, Interest::READABLE)?;
    loop {
        let mut ready = timer.readable().await?;
        let mut expirations = [0; 8];
        let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut expirations)?));
        match read {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(error)) if Errno::from_io_error(&error) == Some(Errno::CANCELED) => {
                return Ok(false);
            }
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => {}
        }
    }
}
