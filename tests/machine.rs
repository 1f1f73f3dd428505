//! sprite-env as the init of a whole machine: a kernel boots it, in qemu.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::support::{PATIENCE, Sprite, Value, json, pid_namespaces, skipped};

/// What a machine is made of.
struct Parts {
    /// The static binary.
    program: PathBuf,
    kernel: PathBuf,
    busybox: PathBuf,
}

impl Parts {
    /// Says what is missing.
    fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.join("target/x86_64-unknown-linux-musl/static/sprite-env");
        let kernel = root.join("target/tools/kernel/vmlinuz");
        let busybox = PathBuf::from("/bin/busybox");
        for (what, path) in [
            ("the static binary (make static)", &program),
            ("a kernel (tests/setup.sh)", &kernel),
            ("/bin/busybox (busybox-static)", &busybox),
        ] {
            if !path.exists() {
                skipped(&format!("no machine can be booted without {what}"));
                return None;
            }
        }
        let qemu = Command::new("qemu-system-x86_64").arg("--version").output();
        if qemu.is_err() {
            skipped("no machine can be booted without qemu-system-x86_64 (qemu-system-x86)");
            return None;
        }
        Some(Self {
            program,
            kernel,
            busybox,
        })
    }
}

/// A machine that was turned on.
struct Machine {
    dir: tempfile::TempDir,
    qemu: Child,
}

/// Answers the lines that come over the second serial line: `GET PATH`, `SH WORDS`.
const BRIDGE: &str = r#"
stty raw -echo <&3
echo ready >&3
while read -r verb rest <&3; do
    api="--header Authorization:\ Bearer\ vm-token http://127.0.0.1:7778$rest"
    case "$verb" in
    GET) eval wget -q -O - $api ;;
    SH) sh -c "$rest" 2>&1 ;;
    esac | tr '\n' ' ' >&3
    echo >&3
done
"#;

impl Machine {
    /// Turns on a machine whose only disk is memory; `config` is what sprite-env is given.
    fn boot(parts: &Parts, config: &Value, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy(&parts.program, root.join("sprite-env")).unwrap();
        fs::copy(&parts.busybox, root.join("bin/busybox")).unwrap();
        for name in [
            "sh", "stty", "wget", "tr", "cat", "sleep", "mount", "ifconfig", "hostname", "ls",
            "grep", "dd",
        ] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("config.json"), config.to_string()).unwrap();
        for (name, text) in files {
            fs::write(root.join(name), text).unwrap();
        }
        let archive = "find . | /bin/busybox cpio -o -H newc >../initramfs 2>/dev/null";
        let packed = Command::new("sh")
            .args(["-c", archive])
            .current_dir(&root)
            .status();
        assert!(packed.unwrap().success());
        let qemu = Command::new("qemu-system-x86_64")
            .current_dir(dir.path())
            // Not by KVM, which may be there and not work: in a machine that is virtual itself.
            .args(["-accel", "tcg", "-m", "512", "-nodefaults", "-no-reboot"])
            .args(["-display", "none", "-serial", "file:console"])
            .args(["-serial", "unix:channel,server=on,wait=off"])
            .arg("-kernel").arg(&parts.kernel)
            .args(["-initrd", "initramfs", "-append"])
            // A word that means nothing to the kernel, and a variable, are handed to the init.
            .arg("console=ttyS0 panic=-1 quiet rdinit=/sprite-env single SPRITE_HTTP_API_TOKEN=vm-token \
                  -- -config /config.json")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { dir, qemu }
    }

    fn console(&self) -> String {
        let bytes = fs::read(self.dir.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A line to what runs in the machine, once that says it is ready.
    fn channel(&mut self) -> Channel {
        let start = Instant::now();
        let path = self.dir.path().join("channel");
        loop {
            if let Ok(stream) = UnixStream::connect(&path) {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut channel = Channel(BufReader::new(stream));
                let hello = channel.line();
                assert!(hello.contains("ready"), "{hello}\n{}", self.console());
                return channel;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "no machine:\n{}",
                self.console()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until it is off; returns what it has said.
    fn wait(mut self) -> String {
        let start = Instant::now();
        loop {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                assert!(status.success(), "{status}:\n{}", self.console());
                return self.console();
            }
            let console = self.console();
            assert!(
                start.elapsed() < PATIENCE,
                "it does not turn off:\n{console}"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

struct Channel(BufReader<UnixStream>);

impl Channel {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, request: &str) -> String {
        writeln!(self.0.get_mut(), "{request}").unwrap();
        self.line()
    }
}

fn config(at_end: &str) -> Value {
    json!({
        "api_listen_addr": "127.0.0.1:7778",
        "init": {"hostname": "sprite-vm", "at_end": at_end},
        "process_command": ["/bin/sh", "-c", "while [ ! -e /end ]; do sleep 0.1; done; exit 7"],
        "components": {
            "bridge": {
                "start_command": ["/bin/sh", "-c", "exec 3<>/dev/ttyS1; . /bridge"],
                "limits": {"memory": "64M", "cpus": 0.5, "pids": 30},
            },
            "hungry": {
                "start_command": ["/bin/sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=100M count=1"],
                "on_failure": "ignore",
                "limits": {"memory": "8M"},
            },
        },
    })
}

#[test]
fn a_kernel_boots_it_and_it_turns_the_machine_off() {
    let Some(parts) = Parts::find() else { return };
    let mut other = config("power-off");
    other["components"]["bridge"]["limits"] = json!({"memory": "32M", "pids": 30});
    let files = [("bridge", BRIDGE), ("other.json", &other.to_string())];
    let mut machine = Machine::boot(&parts, &config("power-off"), &files);
    let mut channel = machine.channel();

    let status: Value = serde_json::from_str(&channel.ask("GET /status")).unwrap();
    assert!(status["process"]["pid"].is_number(), "{status}");
    for at in [
        "/proc",
        "/sys",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/run",
        "/sys/fs/cgroup",
    ] {
        let shown = channel.ask(&format!("SH mount | grep ' {at} '"));
        assert!(shown.contains(&format!(" {at} ")), "{at}: {shown}");
    }
    assert_eq!(channel.ask("SH hostname"), "sprite-vm");
    assert!(
        channel
            .ask("SH ifconfig lo")
            .contains("UP LOOPBACK RUNNING")
    );
    let arguments = channel.ask("SH cat /proc/1/cmdline").replace('\0', " ");
    assert!(
        arguments.contains("single -config /config.json"),
        "{arguments}"
    );

    // This kernel divides the machine among cgroups.
    let tree = "/sys/fs/cgroup/sprite-env-1/tree";
    let read = |channel: &mut Channel, name: &str| {
        channel.ask(&format!("SH cat {tree}/component-bridge/{name}"))
    };
    assert_eq!(read(&mut channel, "memory.max"), (64 << 20).to_string());
    assert_eq!(read(&mut channel, "cpu.max"), "50000 100000");
    assert_eq!(read(&mut channel, "pids.max"), "30");
    // What it may use is changed while it runs.
    channel.ask("SH cat /other.json >/config.json");
    let reload = "SH SPRITE_HTTP_API_TOKEN=vm-token /sprite-env config reload";
    let changes = channel.ask(reload);
    assert!(
        changes.contains("adjusted: limits.cpus, limits.memory"),
        "{changes}"
    );
    assert_eq!(read(&mut channel, "memory.max"), (32 << 20).to_string());
    assert_eq!(read(&mut channel, "cpu.max"), "max 100000");
    assert_eq!(read(&mut channel, "pids.max"), "30");
    let start = Instant::now();
    while !channel
        .ask("GET /status")
        .contains("hungry ended: signal 9")
    {
        assert!(start.elapsed() < PATIENCE, "{}", machine.console());
    }

    // An orphan that is left to us is told to go at the end.
    let orphan = "trap \"echo the orphan is told >/dev/console; exit\" TERM; : >/left; \
                  while :; do sleep 0.1; done";
    channel.ask(&format!("SH (sh -c '{orphan}' >/dev/null 2>&1 &)"));
    while !channel.ask("SH ls /left").ends_with("/left") {}
    channel.ask("SH : >/end");
    let console = machine.wait();
    assert!(console.contains("the orphan is told"), "{console}");
    assert!(
        console.contains("the end, with exit code 7: power-off"),
        "{console}"
    );
    assert!(console.contains("Power down"), "{console}");
    assert!(!console.contains("panic"), "{console}");
}

#[test]
fn limits_of_one_kind_need_the_others_neither_at_the_start_nor_later() {
    let Some(parts) = Parts::find() else { return };
    let limited = |memory: &str| {
        let mut config = config("power-off");
        config["components"]
            .as_object_mut()
            .unwrap()
            .remove("hungry");
        config["components"]["bridge"]["limits"] = json!({"memory": memory});
        config
    };
    let other = limited("32M").to_string();
    let files = [("bridge", BRIDGE), ("other.json", other.as_str())];
    let mut machine = Machine::boot(&parts, &limited("64M"), &files);
    let mut channel = machine.channel();
    channel.ask("SH cat /other.json >/config.json");
    let reload = "SH SPRITE_HTTP_API_TOKEN=vm-token /sprite-env config reload";
    let changes = channel.ask(reload);
    assert!(changes.contains("adjusted: limits.memory"), "{changes}");
    let limit = "/sys/fs/cgroup/sprite-env-1/tree/component-bridge/memory.max";
    let limit = channel.ask(&format!("SH cat {limit}"));
    assert_eq!(limit, (32 << 20).to_string());
    channel.ask("SH : >/end");
    let console = machine.wait();
    assert!(console.contains("Power down"), "{console}");
}

#[test]
fn a_machine_whose_configuration_is_wrong_turns_off_and_says_why() {
    let Some(parts) = Parts::find() else { return };
    let config = json!({"init": {"hostname": "not a name", "at_end": "explode"}});
    let console = Machine::boot(&parts, &config, &[]).wait();
    assert!(
        console.contains("init.hostname: \"not a name\" is no host name"),
        "{console}"
    );
    assert!(
        console.contains("init.at_end: \"explode\" is not one of exit, power-off"),
        "{console}"
    );
    assert!(
        console.contains("the end, with exit code 78: power-off"),
        "{console}"
    );
    assert!(!console.contains("panic"), "{console}");
}

#[test]
fn only_an_init_turns_a_machine_off() {
    if !pid_namespaces() {
        return;
    }
    // Not PID 1, in a PID namespace of its own: a reboot there would end that alone.
    let (code, text) = Sprite::new()
        .config(&json!({"init": {"at_end": "power-off"}}))
        .pid_1()
        .under(&["sh", "-c", "\"$@\"; exit $?", "sh"])
        .command(&["true"])
        .run();
    assert_eq!(code, 69, "{text}");
    let why = "cannot do what init.at_end says, power-off: this is not PID 1";
    assert!(text.contains(why), "{text}");
}
