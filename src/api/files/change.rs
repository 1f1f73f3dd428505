//! `DELETE /fs/delete`, `POST /fs/{rename,copy,chmod,chown}`

use std::path::PathBuf;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::write::octal;
use super::{Failure, blocking, path_of};
use crate::api::Shared;
use crate::api::body::RawBody;
use crate::api::exec::query::Query;
use crate::files::change::CopyOptions;
use crate::files::{Error, Files};

/// What the bodies of these requests say.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    path: String,
    source: String,
    dest: String,
    working_dir: Option<String>,
    recursive: bool,
    preserve_attrs: bool,
    as_root: bool,
    mode: Option<NumberOrText>,
    uid: Option<NumberOrText>,
    gid: Option<NumberOrText>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

impl Body {
    fn absolute(&self, what: &'static str, path: &str) -> Result<PathBuf, Failure> {
        let directory = self.working_dir.as_deref().unwrap_or("/");
        Ok(Files::absolute(what, directory, path)?)
    }
}

async fn read(shared: &Shared, body: &RawBody, example: &str) -> Result<Body, Failure> {
    let body = body.json_or_default(example)?;
    shared.hold_for_commands().await?;
    Ok(body)
}

/// Removes a file or directory. It is named in the query, or in a body.
pub async fn delete(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    body: RawBody,
) -> Result<Json<Value>, Failure> {
    let query = Query::parse(query.as_deref());
    let body = read(&shared, &body, "{\"path\": \"/tmp/x\"}").await?;
    let path = match query.get("path") {
        Some(_) => path_of("delete", &query)?,
        None => body.absolute("delete", &body.path)?,
    };
    let recursive = query.flag("recursive").unwrap_or(body.recursive);
    let text = path.display().to_string();
    blocking(&shared, move |files| files.delete(&path, recursive)).await?;
    Ok(Json(json!({"deleted": [text], "count": 1})))
}

/// Gives a file another name.
pub async fn rename(State(shared): State<Shared>, body: RawBody) -> Result<Json<Value>, Failure> {
    let body = read(&shared, &body, "{\"source\": \"/a\", \"dest\": \"/b\"}").await?;
    let source = body.absolute("rename", &body.source)?;
    let dest = body.absolute("rename", &body.dest)?;
    let told = json!({"source": source, "dest": dest});
    blocking(&shared, move |files| files.rename(&source, &dest)).await?;
    Ok(Json(told))
}

/// Copies a file or directory.
pub async fn copy(State(shared): State<Shared>, body: RawBody) -> Result<Json<Value>, Failure> {
    let body = read(&shared, &body, "{\"source\": \"/a\", \"dest\": \"/b\"}").await?;
    let source = body.absolute("copy", &body.source)?;
    let dest = body.absolute("copy", &body.dest)?;
    let options = CopyOptions {
        recursive: body.recursive,
        preserve: body.preserve_attrs,
        as_root: body.as_root,
    };
    let copied = blocking(&shared, move |files| files.copy(&source, &dest, options)).await?;
    let total: u64 = copied.iter().map(|copied| copied.size).sum();
    let copied: Vec<_> = copied
        .iter()
        .map(|copied| json!({"source": copied.source, "dest": copied.dest}))
        .collect();
    Ok(Json(
        json!({"count": copied.len(), "copied": copied, "totalBytes": total}),
    ))
}

/// Sets permissions.
pub async fn chmod(State(shared): State<Shared>, body: RawBody) -> Result<Json<Value>, Failure> {
    let body = read(&shared, &body, "{\"path\": \"/a\", \"mode\": \"0755\"}").await?;
    let what = "change the mode of";
    let path = body.absolute(what, &body.path)?;
    let mode = match &body.mode {
        Some(NumberOrText::Number(bits)) => Ok(bits & 0o7777),
        Some(NumberOrText::Text(text)) => octal(text),
        None => Err("no mode is given, such as \"0755\"".to_owned()),
    };
    let mode = mode.map_err(|why| Error::invalid(what, &body.path, why))?;
    let recursive = body.recursive;
    let paths = blocking(&shared, move |files| files.chmod(&path, mode, recursive)).await?;
    let affected: Vec<_> = paths
        .iter()
        .map(|path| json!({"path": path, "mode": format!("{mode:04o}")}))
        .collect();
    Ok(Json(json!({"count": affected.len(), "affected": affected})))
}

/// Sets the owner and the group.
pub async fn chown(State(shared): State<Shared>, body: RawBody) -> Result<Json<Value>, Failure> {
    let body = read(&shared, &body, "{\"path\": \"/a\", \"uid\": 1000}").await?;
    let what = "change the owner of";
    let path = body.absolute(what, &body.path)?;
    let invalid = |why| Error::invalid(what, &body.path, why);
    let uid = body.uid.as_ref().map(user).transpose().map_err(invalid)?;
    let gid = body.gid.as_ref().map(group).transpose().map_err(invalid)?;
    if uid.is_none() && gid.is_none() {
        return Err(invalid("neither uid nor gid is given".to_owned()).into());
    }
    let recursive = body.recursive;
    let changing = blocking(&shared, move |files| {
        files.chown(&path, uid, gid, recursive)
    });
    let affected: Vec<_> = changing
        .await?
        .iter()
        .map(|path| json!({"path": path, "uid": uid, "gid": gid}))
        .collect();
    Ok(Json(json!({"count": affected.len(), "affected": affected})))
}

fn user(value: &NumberOrText) -> Result<u32, String> {
    by_name(value, "user", |name| {
        Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw()))
    })
}

fn group(value: &NumberOrText) -> Result<u32, String> {
    by_name(value, "group", |name| {
        Ok(nix::unistd::Group::from_name(name)?.map(|group| group.gid.as_raw()))
    })
}

fn by_name(
    value: &NumberOrText,
    what: &str,
    find: impl Fn(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, String> {
    match value {
        NumberOrText::Number(number) => Ok(*number),
        NumberOrText::Text(text) => match (text.parse(), find(text)) {
            (Ok(number), _) | (_, Ok(Some(number))) => Ok(number),
            (_, Ok(None)) => Err(format!("there is no {what} \"{text}\"")),
            (_, Err(error)) => Err(format!("cannot look up the {what} \"{text}\": {error}")),
        },
    }
}
