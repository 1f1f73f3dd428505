//! Which effect of which machine is which event of which other.
//!
//! Read it as the wiring diagram of the supervisor: an effect that another machine
//! has to hear of becomes an event for it, everything else is a command to the world.

use crate::component;
use crate::operation;
use crate::process;
use crate::system;

/// What becomes of an effect.
pub enum Delivery<E> {
    /// It is an event for the system.
    System(system::Event),
    /// The world must carry it out.
    World(E),
}

/// What the system asks of one other machine, or of the world.
pub enum FromSystem {
    /// An event for the operation.
    Operation(operation::Event),
    /// An event for the process.
    Process(process::Event),
    /// An event for one component.
    Component(usize, component::Event),
    /// Something about all components: the supervisor knows their order.
    Components(ForComponents),
    /// Kill everything that is being stopped.
    Escalate,
    /// The world must carry it out.
    World(system::Effect),
}

/// What the system asks of the components.
pub enum ForComponents {
    /// Start those that carry the storage.
    StartStorage,
    /// Start them.
    Start,
    /// Stop them in reverse order of need, but those that carry the storage.
    Stop,
    /// Stop these too.
    StopStorage,
}

/// Where an effect of the system goes.
#[must_use]
pub const fn of_system(effect: system::Effect) -> FromSystem {
    use system::Effect as E;
    match effect {
        E::StartStorage => FromSystem::Components(ForComponents::StartStorage),
        E::StartComponents => FromSystem::Components(ForComponents::Start),
        E::StopComponents => FromSystem::Components(ForComponents::Stop),
        E::StopStorage => FromSystem::Components(ForComponents::StopStorage),
        E::StartProcess => FromSystem::Process(process::Event::Start),
        E::StopProcess => FromSystem::Process(process::Event::Stop),
        E::StartComponent(id) => FromSystem::Component(id, component::Event::Start),
        E::StopComponent(id) => FromSystem::Component(id, component::Event::Halt),
        E::RestartComponent(id) => FromSystem::Component(id, component::Event::Restart),
        E::Escalate => FromSystem::Escalate,
        E::BeginCheckpoint => FromSystem::Operation(operation::Event::Checkpoint),
        E::BeginRestore => FromSystem::Operation(operation::Event::Restore),
        E::ResumeRestore => FromSystem::Operation(operation::Event::ResumeRestore),
        E::ResumeRollBack => FromSystem::Operation(operation::Event::ResumeRollBack),
        E::ReportDrained => FromSystem::Operation(operation::Event::Drained),
        E::AbortOperation => FromSystem::Operation(operation::Event::Abort),
        E::OpenStorage
        | E::CloseSessions
        | E::SweepTree
        | E::KillTree
        | E::SetTimer(_)
        | E::ClearTimer
        | E::Refuse => FromSystem::World(effect),
    }
}

/// Where an effect of the operation goes.
#[must_use]
pub const fn of_operation(effect: operation::Effect) -> Delivery<operation::Effect> {
    use operation::Effect as E;
    match effect {
        E::ReportPrepared => Delivery::System(system::Event::OperationPrepared),
        E::ReportRollingBack => Delivery::System(system::Event::OperationRollingBack),
        E::ReportRolledBack => Delivery::System(system::Event::OperationRolledBack),
        E::ReportDone => Delivery::System(system::Event::OperationDone),
        E::ReportFailed => Delivery::System(system::Event::OperationFailed),
        other => Delivery::World(other),
    }
}

/// Where an effect of the process goes.
#[must_use]
pub const fn of_process(effect: process::Effect) -> Delivery<process::Effect> {
    use process::Effect as E;
    match effect {
        E::ReportRunning => Delivery::System(system::Event::ProcessRunning),
        E::ReportDown => Delivery::System(system::Event::ProcessDown),
        E::ReportStopped => Delivery::System(system::Event::ProcessStopped),
        E::ReportExited { success } => Delivery::System(system::Event::ProcessExited { success }),
        E::ReportFailed => Delivery::System(system::Event::ProcessFailed),
        other => Delivery::World(other),
    }
}

/// What a component's report tells the system at once; what it means for all of
/// them together (all ready, all down) is the supervisor's to find out.
#[must_use]
pub const fn report_of_component(effect: component::Effect) -> Option<system::Event> {
    use component::Effect as E;
    match effect {
        E::ReportDown | E::ReportLost => Some(system::Event::ComponentDown),
        E::ReportFailed => Some(system::Event::ComponentFailed),
        _ => None,
    }
}
