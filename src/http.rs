//! Clients of HTTP servers.

use reqwest::{Client, ClientBuilder, Url};

/// What clients encrypt with, whoever makes them. Somebody may have done it before; then it is
/// done.
pub fn provide_cryptography() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Begins a client for requests to `url`, which reach it directly. Only for https are the
/// machine's certificates read: a bare machine or container has none, and needs none for http.
pub fn client(url: &Url) -> ClientBuilder {
    provide_cryptography();
    let client = Client::builder().no_proxy();
    match url.scheme() {
        "https" => client,
        _ => client.tls_certs_only([]),
    }
}
