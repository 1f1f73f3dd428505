//! Clients of HTTP servers.

use reqwest::{Client, ClientBuilder, Url};

/// Begins a client for requests to `url`, which reach it directly. Only for https are the
/// machine's certificates read: a bare machine or container has none, and needs none for http.
pub fn client(url: &Url) -> ClientBuilder {
    // Somebody may have done it before; then it is done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy();
    match url.scheme() {
        "https" => client,
        _ => client.tls_certs_only([]),
    }
}
