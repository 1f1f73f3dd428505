//! The machines in their world, as stateright wants to see them.

use machines::model::{Action, POSSIBLE, Setting, World};
use machines::safety::PROPERTIES;
use stateright::{Expectation, Model, Property};

/// One setting.
pub struct Composition {
    setting: Setting,
}

impl Composition {
    pub const fn new(setting: &Setting) -> Self {
        Self { setting: *setting }
    }
}

impl Model for Composition {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.setting)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(&self.setting, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.take(&action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let possible = [possible::<0>, possible::<1>, possible::<2>, possible::<3>];
        assert_eq!(possible.len(), POSSIBLE.len(), "each has its function here");
        let possible = POSSIBLE.iter().zip(possible);
        let mut properties: Vec<_> = possible
            .map(|((name, _), condition)| Property {
                expectation: Expectation::Sometimes,
                name,
                condition,
            })
            .collect();
        let always = [
            always::<0>,
            always::<1>,
            always::<2>,
            always::<3>,
            always::<4>,
            always::<5>,
            always::<6>,
            always::<7>,
            always::<8>,
            always::<9>,
            always::<10>,
            always::<11>,
            always::<12>,
            always::<13>,
        ];
        assert_eq!(always.len(), PROPERTIES.len(), "each has its function here");
        properties.extend(
            PROPERTIES
                .iter()
                .zip(always)
                .map(|((name, _), condition)| Property {
                    expectation: Expectation::Always,
                    name,
                    condition,
                }),
        );
        properties.push(Property::always(
            "no step is wrong, and the world is never asked for nonsense",
            |_, world: &World| world.witness.violation.is_none(),
        ));
        properties
    }
}

fn always<const N: usize>(_: &Composition, world: &World) -> bool {
    (PROPERTIES[N].1)(&world.machines, &world.witness)
}

fn possible<const N: usize>(_: &Composition, world: &World) -> bool {
    (POSSIBLE[N].1)(world)
}
