//! The main process's settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::Checker;
use crate::config::component::attributes::attributes;
use crate::config::component::limits::limits;
use crate::config::component::probe;
use crate::config::component::{Backoff, command, environment, time, user};
use crate::config::origin::{Origin, from_file};
use crate::config::value::format_duration;
use crate::config::{Cgroups, ForwardTo, Process, SignalMap, signal};

impl Checker<'_> {
    pub(super) fn process(&mut self) -> Process {
        let command = if self.flags.command.is_empty() {
            command(
                "process_command",
                self.file.process_command.as_ref(),
                &mut self.ledger,
            )
        } else {
            let words = self.flags.command.clone();
            let shown = json!(words);
            Some(
                self.ledger
                    .note("process_command", words, shown, Origin::Flag("--")),
            )
        };
        let key = "process_graceful_shutdown_timeout";
        let grace = match self.flags.graceful_shutdown_timeout {
            Some(value) => {
                let shown = format_duration(value).into();
                let origin = Origin::Flag("-graceful-shutdown-timeout");
                self.ledger.note(key, value, shown, origin)
            }
            None => time(
                key,
                self.file.process_graceful_shutdown_timeout.as_ref(),
                30_000,
                &mut self.ledger,
            ),
        };
        let max = time(
            "process_restart_backoff_max",
            self.file.process_restart_backoff_max.as_ref(),
            30_000,
            &mut self.ledger,
        );
        let default = Backoff::default();
        Process {
            command: command.unwrap_or_default(),
            working_dir: self
                .ledger
                .pick_optional(
                    "process_working_dir",
                    [from_file(self.file.process_working_dir.as_ref())],
                )
                .map(PathBuf::from),
            environment: environment(
                "process_environment",
                self.file.process_environment.as_ref(),
                &mut self.ledger,
            ),
            user: user(
                "process_user",
                self.file.process_user.as_ref(),
                &mut self.ledger,
            ),
            attributes: attributes(
                "process_attributes",
                self.file.process_attributes.as_ref(),
                &mut self.ledger,
            ),
            limits: limits(
                "process_limits",
                self.file.process_limits.as_ref(),
                &mut self.ledger,
            ),
            success_exit_codes: probe::success_exit_codes(
                "process_success_exit_codes",
                self.file.process_success_exit_codes.as_ref(),
                &mut self.ledger,
            ),
            pre_stop: probe::hook(
                "process_pre_stop",
                self.file.process_pre_stop.as_ref(),
                &mut self.ledger,
            ),
            grace,
            max_retries: self.ledger.pick(
                "process_restart_max_retries",
                [from_file(self.file.process_restart_max_retries.as_ref())],
                0,
            ),
            backoff: Backoff {
                max,
                min: default.min.min(max),
                ..default
            },
            forward_to: self.forward_to(),
            signal_map: self.signal_map(),
            exit_code_map: self.exit_code_map(),
        }
    }

    fn forward_to(&mut self) -> ForwardTo {
        let flag = self.flags.forward_to.clone();
        let flag = flag.map(|text| (text, Origin::Flag("-forward-to")));
        let file = from_file(self.file.forward_to.as_ref());
        let others = [("process", ForwardTo::Process)];
        self.choice(
            "forward_to",
            [flag, file],
            ("group", ForwardTo::Group),
            &others,
        )
    }

    pub(super) fn cgroups(&mut self) -> Cgroups {
        let file = [from_file(self.file.cgroups.as_ref())];
        let others = [("required", Cgroups::Required), ("off", Cgroups::Off)];
        self.choice("cgroups", file, ("auto", Cgroups::Auto), &others)
    }

    /// The signal that we get when our parent ends.
    pub(super) fn parent_death_signal(&mut self) -> Option<i32> {
        let flag = self.flags.parent_death_signal.clone();
        let flag = flag.map(|text| (text, Origin::Flag("-parent-death-signal")));
        let text = self.ledger.pick_optional("parent_death_signal", [flag])?;
        let signal = signal::parse(&text);
        if signal.is_none() {
            let why = format!("\"{text}\" is no signal");
            self.ledger.wrong("parent_death_signal", why);
        }
        signal
    }

    fn signal_map(&mut self) -> SignalMap {
        let flag = self.flags.signal_map.clone();
        let (written, origin) = written(flag, "-signal-map", self.file.signal_map.clone());
        let map = SignalMap::parse(&written).unwrap_or_else(|errors| {
            for (entry, why) in errors {
                self.ledger.wrong(&format!("signal_map.{entry}"), why);
            }
            SignalMap::default()
        });
        self.ledger.note("signal_map", map, json!(written), origin)
    }

    fn exit_code_map(&mut self) -> BTreeMap<u8, u8> {
        let flag = self.flags.exit_code_map.clone();
        let (written, origin) = written(flag, "-exit-code-map", self.file.exit_code_map.clone());
        let mut map = BTreeMap::new();
        for (from, to) in &written {
            if let Ok(from) = from.parse() {
                map.insert(from, *to);
            } else {
                let why = "an exit code is a whole number from 0 to 255";
                self.ledger.wrong(&format!("exit_code_map.{from}"), why);
            }
        }
        self.ledger
            .note("exit_code_map", map, json!(written), origin)
    }
}

/// A map as it was written, and where: a flag's replaces the file's.
fn written<T>(
    flag: Option<BTreeMap<String, T>>,
    name: &'static str,
    file: Option<BTreeMap<String, T>>,
) -> (BTreeMap<String, T>, Origin) {
    match (flag, file) {
        (Some(map), _) => (map, Origin::Flag(name)),
        (None, Some(map)) if !map.is_empty() => (map, Origin::File),
        _ => (BTreeMap::new(), Origin::Default),
    }
}
