//! A bucket of an S3 service: the few things that are done with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _,
    PutMode, PutOptions, PutPayload, RetryConfig,
};

use super::super::super::driver::Error;
use crate::config;

/// How often a request is repeated before it counts as failed.
const RETRIES: usize = 3;
/// How long it is repeated.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long one request may take: a pack over a slow line.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of an object that was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// It is ours.
    New,
    /// Somebody else had made it, with these bytes.
    Exists(Bytes),
}

/// A bucket.
#[derive(Debug)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    shown: String,
    /// Whether the service refuses to make an object that is there.
    conditional: AtomicBool,
}

impl Bucket {
    /// As `settings` says. Nothing is sent.
    pub fn new(settings: &config::Bucket) -> Result<Self, Error> {
        crate::http::provide_cryptography();
        // A bare machine or container has no certificates, and needs none for http.
        let is_http = |endpoint: &String| endpoint.starts_with("http://");
        let client = ClientOptions::new()
            .with_allow_http(true)
            .with_no_system_certificates(settings.endpoint.as_ref().is_some_and(is_http))
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.name)
            .with_region(&settings.region)
            .with_access_key_id(settings.access_key.expose())
            .with_secret_access_key(settings.secret_key.expose())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_virtual_hosted_style_request(settings.endpoint.is_none())
            .with_client_options(client)
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        let shown = format!("s3://{}/{}", settings.name, settings.prefix);
        let store = builder.build().map_err(|error| {
            Error::Unusable(format!("the bucket {shown} cannot be used: {error}"))
        })?;
        Ok(Self {
            store: Arc::new(store),
            prefix: settings.prefix.clone(),
            shown,
            conditional: AtomicBool::new(true),
        })
    }

    /// What it is called: `s3://BUCKET/PREFIX`.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    fn path(&self, key: &str) -> Path {
        Path::from(format!("{}/{key}", self.prefix))
    }

    fn failed(&self, what: &'static str, key: &str, error: &StoreError) -> Error {
        Error::Bucket {
            what,
            key: format!("{}/{key}", self.shown),
            why: sentence(error),
        }
    }

    /// Refuses a service that would let two programs make the same object, unless `lease` allows
    /// it.
    pub async fn check_conditional(&self, lease: config::Lease) -> Result<(), Error> {
        if self.is_conditional().await? {
            return Ok(());
        }
        let shown = self.shown();
        if lease == config::Lease::Required {
            return Err(Error::Unusable(format!(
                "the service of {shown} ignores the condition of a write (If-None-Match), so two \
                 environments could spoil each other's checkpoints there; if nobody else uses it, \
                 set checkpoint.lease to \"best-effort\""
            )));
        }
        tracing::warn!(
            "the service of {shown} ignores the condition of a write: make sure that nobody else \
             uses it"
        );
        self.conditional.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the service makes an object only once if it is asked to.
    async fn is_conditional(&self) -> Result<bool, Error> {
        let key = format!("probe/{:032x}", fastrand::u128(..));
        let first = self.put_new(&key, Bytes::from_static(b"1")).await?;
        let second = self.put_new(&key, Bytes::from_static(b"2")).await?;
        self.delete(&key).await?;
        Ok(first == Made::New && second == Made::Exists(Bytes::from_static(b"1")))
    }

    /// Makes an object, unless it is there. An answer that leaves it open is resolved by
    /// reading the object.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<Made, Error> {
        let mut mode = PutMode::Create;
        if !self.conditional.load(Ordering::Relaxed) {
            if let Some(there) = self.get(key).await? {
                return Ok(Made::Exists(there));
            }
            mode = PutMode::Overwrite;
        }
        let options = PutOptions::from(mode);
        let path = self.path(key);
        let payload = PutPayload::from_bytes(bytes.clone());
        let put = self.store.put_opts(&path, payload, options).await;
        let Err(error) = put else {
            return Ok(Made::New);
        };
        match self.get(key).await {
            // A request that was repeated finds its own object.
            Ok(Some(there)) if there == bytes => Ok(Made::New),
            Ok(Some(there)) => Ok(Made::Exists(there)),
            _ => Err(self.failed("write", key, &error)),
        }
    }

    /// Writes an object, whatever is there.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let path = self.path(key);
        let put = self.store.put(&path, PutPayload::from_bytes(bytes)).await;
        put.map_err(|error| self.failed("write", key, &error))?;
        Ok(())
    }

    /// The bytes of an object; none if there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.read(key, GetOptions::default()).await
    }

    /// The last `length` bytes of an object; none if there is none.
    pub async fn get_last(&self, key: &str, length: u64) -> Result<Option<Bytes>, Error> {
        let range = |range| GetOptions {
            range: Some(range),
            ..GetOptions::default()
        };
        let error = match self.read(key, range(GetRange::Suffix(length))).await {
            Err(error) => error,
            found => return found,
        };
        // Some services fail where more is asked for than there is: it is all, by RFC 9110.
        let Ok(meta) = self.store.head(&self.path(key)).await else {
            return Err(error);
        };
        let from = meta.size.saturating_sub(length);
        self.read(key, range(GetRange::Offset(from))).await
    }

    async fn read(&self, key: &str, options: GetOptions) -> Result<Option<Bytes>, Error> {
        let found = match self.store.get_opts(&self.path(key), options).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.failed("read", key, &error))?,
        };
        let bytes = found.bytes().await;
        bytes
            .map(Some)
            .map_err(|error| self.failed("read", key, &error))
    }

    /// The names of the objects in a directory.
    pub async fn list(&self, dir: &str) -> Result<Vec<String>, Error> {
        let path = self.path(dir);
        let found: Result<Vec<_>, _> = self.store.list(Some(&path)).try_collect().await;
        let found = found.map_err(|error| self.failed("list", dir, &error))?;
        let names = found.iter().filter_map(|object| {
            let name = object.location.filename();
            name.map(ToOwned::to_owned)
        });
        Ok(names.collect())
    }

    /// Whether there is anything in a directory whose key `is_it`.
    pub async fn has_any(&self, dir: &str, is_it: impl Fn(&str) -> bool) -> Result<bool, Error> {
        let path = self.path(dir);
        let mut found = self.store.list(Some(&path));
        while let Some(object) = found.next().await {
            let object = object.map_err(|error| self.failed("list", dir, &error))?;
            if is_it(object.location.as_ref()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes everything in a directory.
    pub async fn delete_all(&self, dir: &str) -> Result<(), Error> {
        let path = self.path(dir);
        let found = self.store.list(Some(&path));
        let found = found.map_ok(|object| object.location).boxed();
        let removed = self.store.delete_stream(found).try_collect::<Vec<_>>();
        let removed = removed.await;
        removed.map_err(|error| self.failed("remove", dir, &error))?;
        Ok(())
    }

    /// Removes an object if it is there.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", key, &error)),
        }
    }
}

/// What the service said, in words: the cause, not the way to it.
fn sentence(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let told = inner.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = inner.source();
    }
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.to_owned())
    };
    if let (Some(code), Some(message)) = (element("Code"), element("Message")) {
        return format!("the service says {code}: {message}");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> StoreError {
        StoreError::Generic {
            store: "S3",
            source: text.into(),
        }
    }

    #[test]
    fn an_answer_in_xml_becomes_a_sentence() {
        let told = sentence(&refused(
            "404: <?xml version=\"1.0\"?>\n<Error><Code>NoSuchBucket</Code>\n\
             <Message>There is none</Message></Error>",
        ));
        assert_eq!(told, "the service says NoSuchBucket: There is none");
    }

    #[test]
    fn anything_else_is_put_on_one_line() {
        let told = sentence(&refused("connection\n  refused"));
        assert_eq!(told, "Generic S3 error: connection refused");
    }
}
