//! A main process that is run at a terminal has it: it reads, is interrupted, is told of the
//! size and of a hang-up, as if nobody stood between.

use crate::support::BIN;

/// Runs us at a terminal of our own and plays the person before it.
const PERSON: &str = r#"
import fcntl, os, pty, select, signal, struct, sys, termios
program, main = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    # Whoever runs the tests may ignore these.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.execv(program, [program, "--", "sh", "-c", main])
seen = b""
def expect(what):
    global seen
    while what not in seen:
        assert select.select([terminal], [], [], 60)[0], (what, seen)
        seen += os.read(terminal, 4096)
expect(b"ready")
os.write(terminal, b"hello\n")
expect(b"line: hello")
os.write(terminal, b"\x03")
expect(b"interrupted")
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
expect(b"size: 33 77")
os.close(terminal)
_, status = os.waitpid(pid, 0)
print("ended with", os.waitstatus_to_exitcode(status))
"#;

const MAIN: &str = "trap 'echo interrupted' INT; trap 'echo size: $(stty size)' WINCH; \
                    trap 'exit 3' HUP; echo ready; read line; echo line: $line; \
                    while :; do sleep 0.02; done";

#[test]
fn the_main_process_has_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let played = std::process::Command::new("python3")
        .args(["-c", PERSON, BIN, MAIN])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stdout).into_owned();
    assert_eq!(
        said,
        "ended with 3\n",
        "{}",
        String::from_utf8_lossy(&played.stderr)
    );
}
