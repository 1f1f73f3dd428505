//! How long the machines take for one event, and whether they keep memory.
//!
//! A supervisor with 32 components in a row of need is led through its whole life again
//! and again: boot, readiness, a component that dies and comes back, a checkpoint, a
//! restore. The limits are this program's own (there is no peer for it), and missing one
//! makes it fail.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(unsafe_code, reason = "an allocator can only be counted by being one")]

use std::alloc::{GlobalAlloc, Layout, System as SystemAllocator};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use machines::component::{self, Component, OnFailure};
use machines::exit::Exit;
use machines::supervisor::{Input, Plan, Supervisor};
use machines::{operation, process, system};

const COMPONENTS: usize = 32;
const EVENTS: usize = 10_000_000;
/// The bar: half of the events must be handled within this.
const LIMIT: Duration = Duration::from_micros(5);

/// Counts the bytes that are allocated and not freed.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on as it is to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { SystemAllocator.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { SystemAllocator.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let mut machines = Supervisor::new(plan());
    for input in boot() {
        machines.handle(input);
    }
    let cycle = cycle();
    // Once round: everything that is allocated once is allocated then.
    for input in &cycle {
        machines.handle(input.clone());
    }
    let settled = machines.clone();
    let live = LIVE.load(Ordering::Relaxed);

    let start = Instant::now();
    for input in cycle.iter().cycle().take(EVENTS) {
        black_box(machines.handle(black_box(input.clone())));
    }
    let mean = start.elapsed() / u32::try_from(EVENTS).unwrap();
    // To the end of the cycle, so that what is compared is the same state.
    for input in cycle.iter().skip(EVENTS % cycle.len()) {
        machines.handle(input.clone());
    }
    let grown = LIVE.load(Ordering::Relaxed).saturating_sub(live);
    assert!(
        machines == settled,
        "the cycle does not come back to where it began"
    );

    let mut times = Vec::with_capacity(1_000_000);
    for input in cycle.iter().cycle().take(1_000_000) {
        let input = input.clone();
        let start = Instant::now();
        black_box(machines.handle(black_box(input)));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("machines: one event of a supervisor with {COMPONENTS} components");
    println!("  median {median:?} (limit {LIMIT:?}), p99 {p99:?}; mean over {EVENTS} {mean:?}");
    println!("  memory kept after {EVENTS} events: {grown} bytes (limit 0)");
    assert!(median < LIMIT, "the median is over the limit");
    assert!(grown == 0, "memory grows");
}

/// Components in a row, each needing the one before; the last may be restarted.
fn plan() -> Plan {
    let component = |id| Component {
        on_failure: match id {
            31 => OnFailure::Restart,
            _ => OnFailure::Shutdown,
        },
        budget: 5,
        ..Component::default()
    };
    Plan {
        components: (0..COMPONENTS).map(component).collect(),
        needs: (0..COMPONENTS)
            .map(|id| id.checked_sub(1).into_iter().collect())
            .collect(),
        ..Plan::default()
    }
}

fn boot() -> Vec<Input> {
    let mut inputs = vec![Input::System(system::Event::Boot)];
    inputs.extend((0..COMPONENTS).map(|id| Input::Component(id, component::Event::Ready)));
    inputs.push(Input::Process(process::Event::Launched));
    inputs
}

/// Everything that can happen to it in a day, from Running to Running.
fn cycle() -> Vec<Input> {
    use component::Event as C;
    use operation::Event as O;
    use system::Event as S;
    let last = |event| Input::Component(COMPONENTS - 1, event);
    // A component dies, comes back, and its restart is forgiven.
    let mut inputs = vec![
        last(C::Exited(Exit::Code(1))),
        last(C::TimedOut),
        last(C::Ready),
        last(C::TimedOut),
    ];
    // A checkpoint, with a request that has to be refused.
    inputs.push(Input::System(S::Checkpoint));
    inputs.extend([O::Announced, O::PreCopied, O::Frozen, O::Captured].map(Input::Operation));
    inputs.push(Input::System(S::Restore));
    inputs.extend([O::Thawed, O::Sealed, O::Replicated].map(Input::Operation));
    // A restore: everything down in reverse order, and up again.
    inputs.push(Input::System(S::Restore));
    inputs.extend([O::Resolved, O::Fetched, O::Saved].map(Input::Operation));
    inputs.push(Input::Process(process::Event::Exited(Exit::Signal(15))));
    let all = (0..COMPONENTS).rev();
    inputs.extend(all.map(|id| Input::Component(id, C::Exited(Exit::Signal(15)))));
    inputs.push(Input::System(S::TreeEmpty));
    inputs.extend([O::Swapped, O::Verified].map(Input::Operation));
    inputs.extend(boot().into_iter().skip(1));
    inputs
}
