//! Which component is which. The machines know each by its place in the plan, which another
//! configuration changes; everything that is under way knows it by a number that stays.

use machines::supervisor::Input;
use machines::system::Event;

/// The components of a plan, in order.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    members: Vec<Member>,
    /// The number that the next new one gets.
    next: usize,
}

/// One component.
#[derive(Clone, Debug)]
struct Member {
    number: usize,
    name: String,
}

impl Roster {
    /// The roster with these components instead. Those that it has already keep their numbers.
    #[must_use]
    pub fn with<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut next = self.next;
        let members = names.into_iter().map(|name| {
            let number = self.place_of(name).and_then(|place| self.number(place));
            Member {
                name: name.to_owned(),
                number: number.unwrap_or_else(|| {
                    next += 1;
                    next - 1
                }),
            }
        });
        let members = members.collect();
        Self { members, next }
    }

    /// The number of the component at `place`.
    #[must_use]
    pub fn number(&self, place: usize) -> Option<usize> {
        self.members.get(place).map(|member| member.number)
    }

    /// The name of the component at `place`.
    #[must_use]
    pub fn name(&self, place: usize) -> Option<&str> {
        self.members.get(place).map(|member| member.name.as_str())
    }

    /// The place of the component with this number.
    #[must_use]
    pub fn place(&self, number: usize) -> Option<usize> {
        let mut members = self.members.iter();
        members.position(|member| member.number == number)
    }

    /// The place of the component with this name.
    #[must_use]
    pub fn place_of(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.name == name)
    }

    /// Names and numbers, in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, usize)> {
        let members = self.members.iter();
        members.map(|member| (member.name.as_str(), member.number))
    }

    /// An input by number as one by place; none if that component is no more.
    #[must_use]
    pub fn to_machines(&self, input: Input) -> Option<Input> {
        Some(match input {
            Input::Component(number, event) => Input::Component(self.place(number)?, event),
            Input::System(Event::StartComponent(number)) => {
                Input::System(Event::StartComponent(self.place(number)?))
            }
            Input::System(Event::StopComponent(number)) => {
                Input::System(Event::StopComponent(self.place(number)?))
            }
            Input::System(Event::RestartComponent(number)) => {
                Input::System(Event::RestartComponent(self.place(number)?))
            }
            input => input,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stays_keeps_its_number_and_none_is_given_twice() {
        let first = Roster::default().with(["b", "d"]);
        assert!(first.members().eq([("b", 0), ("d", 1)]));
        let second = first.with(["a", "d"]);
        assert!(second.members().eq([("a", 2), ("d", 1)]));
        let third = second.with(["b", "d"]);
        assert!(third.members().eq([("b", 3), ("d", 1)]));
        let stop = |number| Input::System(Event::StopComponent(number));
        assert_eq!(third.to_machines(stop(3)), Some(stop(0)));
        assert_eq!(third.to_machines(stop(0)), None);
        assert_eq!(third.place_of("d"), Some(1));
    }
}
