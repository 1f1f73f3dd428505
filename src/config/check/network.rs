//! The settings of the environment's network.

use std::path::PathBuf;
use std::time::Duration;

use super::Checker;
use crate::config::component::time;
use crate::config::origin::from_file;
use crate::config::{Network, UrlProxy};

impl Checker<'_> {
    pub(super) fn network(&mut self) -> Network {
        let network = self.file.network.clone().unwrap_or_default();
        let namespace = [from_file(network.namespace.as_ref())];
        let namespace = self.ledger.pick_optional("network.namespace", namespace);
        let namespace = namespace.map(PathBuf::from);
        if namespace.as_ref().is_some_and(|path| !path.is_absolute()) {
            let why = "must be an absolute path, such as /run/netns/NAME or /proc/PID/ns/net";
            self.ledger.wrong("network.namespace", why);
        }
        Network { namespace }
    }

    pub(super) fn url_proxy(&mut self) -> UrlProxy {
        let proxy = self.file.url_proxy.clone().unwrap_or_default();
        let port = [from_file(proxy.port.as_ref())];
        let port = self.ledger.pick("url_proxy.port", port, 8080_u64);
        let port = u16::try_from(port).ok().filter(|port| *port > 0);
        if port.is_none() {
            let why = "a port is a number between 1 and 65535";
            self.ledger.wrong("url_proxy.port", why);
        }
        let timeout = proxy.response_timeout.as_ref();
        let timeout = time(
            "url_proxy.response_timeout",
            timeout,
            60_000,
            &mut self.ledger,
        );
        let trusted = [from_file(proxy.trust_edge.as_ref())];
        UrlProxy {
            port: port.unwrap_or(8080),
            response_timeout: (timeout > Duration::ZERO).then_some(timeout),
            trust_edge: self.ledger.pick("url_proxy.trust_edge", trusted, false),
        }
    }
}
