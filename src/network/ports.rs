//! Which TCP ports are listened on, and by whom.
//!
//! The kernel tells nobody when a port opens, so `/proc` is looked at again and again,
//! but only while somebody wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::Namespace;
use crate::pid1::tree;

/// How long after one look comes the next.
const PAUSE: Duration = Duration::from_millis(500);
/// The state of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTEN: &str = "0A";

/// A port that is listened on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Its number.
    pub port: u16,
    /// At which address; `0.0.0.0` or `::` at all of them.
    pub address: IpAddr,
    /// The process; 0 if it cannot be told.
    pub pid: i32,
    /// The process, its session and its ancestors when it was seen first.
    lineage: Vec<i32>,
}

impl Port {
    /// Whether the process is `pid`, one of its session or one of its descendants.
    #[must_use]
    pub fn is_of(&self, pid: i32) -> bool {
        self.lineage.contains(&pid)
    }
}

/// All ports that are listened on, at one moment.
pub type Listening = Arc<BTreeSet<Port>>;

/// What opened and what closed between two looks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// These were not listened on before.
    pub opened: Vec<Port>,
    /// These are no more.
    pub closed: Vec<Port>,
}

/// Looks for whoever wants to know. Clones look together.
#[derive(Clone, Debug)]
pub struct Ports {
    /// None until somebody has looked.
    found: watch::Sender<Option<Listening>>,
    wanted: Arc<Notify>,
}

/// Somebody who wants to know. While there is none nobody looks.
#[derive(Debug)]
pub struct Watch {
    found: watch::Receiver<Option<Listening>>,
    known: Option<Listening>,
}

impl Ports {
    /// Looks into `namespace`. Must be called on a runtime.
    #[must_use]
    pub fn new(namespace: Namespace) -> Self {
        let ports = Self {
            found: watch::Sender::new(None),
            wanted: Arc::default(),
        };
        tokio::spawn(look(
            ports.found.clone(),
            Arc::clone(&ports.wanted),
            namespace,
        ));
        ports
    }

    /// From now on: the first change is everything that is open.
    #[must_use]
    pub fn watch(&self) -> Watch {
        let found = self.found.subscribe();
        self.wanted.notify_one();
        Watch { found, known: None }
    }
}

impl Watch {
    /// What changed since the last call. Waits until something has; the first call only
    /// until somebody has looked. None if nobody looks any more.
    pub async fn change(&mut self) -> Option<Change> {
        loop {
            let found = self.found.borrow_and_update().clone();
            match found {
                Some(found) if self.known.as_ref() != Some(&found) => {
                    let known = self.known.replace(Arc::clone(&found)).unwrap_or_default();
                    return Some(Change {
                        opened: found.difference(&known).cloned().collect(),
                        closed: known.difference(&found).cloned().collect(),
                    });
                }
                _ => self.found.changed().await.ok()?,
            }
        }
    }
}

async fn look(found: watch::Sender<Option<Listening>>, wanted: Arc<Notify>, namespace: Namespace) {
    loop {
        wanted.notified().await;
        let mut known = Sockets::new();
        while found.receiver_count() > 0 {
            let before = known.clone();
            match namespace.run(move || listening(&before)).await {
                Ok(sockets) => known = sockets,
                // The namespace may be yet to come, or gone.
                Err(error) => {
                    tracing::debug!(%error, "cannot tell which ports are listened on");
                    known.clear();
                }
            }
            found.send_if_modified(|found| changed(found, &known));
            tokio::time::sleep(PAUSE).await;
        }
        // It grows old while nobody looks.
        found.send_replace(None);
    }
}

fn changed(found: &mut Option<Listening>, sockets: &Sockets) -> bool {
    // Several sockets may share a port; whose it is stays with the one seen first.
    let mut ports = BTreeMap::new();
    for port in sockets.values() {
        ports.entry((port.address, port.port)).or_insert(port);
    }
    let ports: BTreeSet<Port> = ports.into_values().cloned().collect();
    let is_new = found.as_deref() != Some(&ports);
    if is_new {
        *found = Some(Arc::new(ports));
    }
    is_new
}

/// Listening sockets by inode.
type Sockets = BTreeMap<u64, Port>;

/// Looks, in the namespace of this thread. Whose socket is known is not looked up again.
fn listening(known: &Sockets) -> io::Result<Sockets> {
    let mut sockets = Sockets::new();
    let mut unknown = BTreeMap::new();
    for table in ["tcp", "tcp6"] {
        let file = match File::open(format!("/proc/thread-self/net/{table}")) {
            Ok(file) => file,
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table == "tcp6" => continue,
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).lines().skip(1) {
            match parse(&line?) {
                // The kernel lists them first; the many connections behind are of no interest.
                Some(Line {
                    is_listening: false,
                    ..
                }) => break,
                Some(Line {
                    inode,
                    address,
                    port,
                    ..
                }) => match known.get(&inode).filter(|port| port.pid > 0) {
                    Some(port) => drop(sockets.insert(inode, port.clone())),
                    None => drop(unknown.insert(inode, (address, port))),
                },
                None => {}
            }
        }
    }
    if unknown.is_empty() {
        return Ok(sockets);
    }
    let owners = owners(&unknown);
    for (inode, (address, port)) in unknown {
        let pid = owners.get(&inode).copied().unwrap_or(0);
        let lineage = lineage(pid);
        let port = Port {
            port,
            address,
            pid,
            lineage,
        };
        sockets.insert(inode, port);
    }
    Ok(sockets)
}

/// What a line of `/proc/net/tcp` says.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    address: IpAddr,
    port: u16,
    is_listening: bool,
    inode: u64,
}

/// Reads `sl local_address rem_address st queues timer retransmits uid timeout inode …`
/// (proc_net_tcp in the kernel's documentation).
fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let is_listening = fields.nth(1)? == LISTEN;
    Some(Line {
        address: parse_address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        is_listening,
        inode: fields.nth(5)?.parse().ok()?,
    })
}

/// An address is printed as numbers of 32 bits in the machine's byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        Some(u128::from(u32::from_be_bytes(number.to_ne_bytes())))
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(u32::try_from(word(0)?).ok()?).into()),
        32 => {
            let bits = word(0)? << 96 | word(1)? << 64 | word(2)? << 32 | word(3)?;
            Some(Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}

/// Which processes hold the sockets; of several the lowest number, which is mostly the
/// one that the others come from.
fn owners<T>(sockets: &BTreeMap<u64, T>) -> BTreeMap<u64, i32> {
    let mut owners = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may be gone, or somebody's whom we may not look at.
        for file in fs::read_dir(process.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let Ok(link) = fs::read_link(file.path()) else {
                continue;
            };
            let inode = link.to_str().and_then(|link| {
                link.strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .parse::<u64>()
                    .ok()
            });
            if let Some(inode) = inode
                && sockets.contains_key(&inode)
            {
                let owner = owners.entry(inode).or_insert(pid);
                *owner = pid.min(*owner);
            }
        }
    }
    owners
}

fn lineage(pid: i32) -> Vec<i32> {
    let mut lineage = Vec::new();
    let mut session = None;
    let mut next = pid;
    // A process that ends under our eyes could lead us in a circle.
    while next > 1 && !lineage.contains(&next) {
        lineage.push(next);
        let Some(entry) = tree::read(next) else {
            break;
        };
        session.get_or_insert(entry.session);
        next = entry.parent;
    }
    lineage.extend(session);
    lineage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 \
                    00000000  1000        0 31337 1 0000000000000000 100 0 0 10 0";
        let found = parse(line);
        let expected = Line {
            address: IpAddr::from([127, 0, 0, 1]),
            port: 8080,
            is_listening: true,
            inode: 31337,
        };
        assert_eq!(found, Some(expected));
        let v6 = "B80D0120000000000000000001000000";
        assert_eq!(parse_address(v6), "2001:db8::1".parse().ok());
        assert_eq!(parse_address("00000000"), "0.0.0.0".parse().ok());
        for bad in [
            "",
            "xyz",
            "  sl  local_address rem_address",
            "0: 0100007F:1F90",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
