use oslo_messaging::{Error, FromRemote, IntoFailure, RemoteError};

#[derive(Debug, thiserror::Error, RemoteError)]
#[error("no node {0}")]
#[remote(module = "conductor.exception", class = "NodeNotFound", alias = "old.NoNode")]
struct NoNode(String);

#[derive(Debug, thiserror::Error, RemoteError)]
#[error("unit")]
#[remote(module = "a.b.c", no_args)]
struct Unit;

#[derive(Debug, thiserror::Error, RemoteError)]
enum Everything {
    #[error("{type}")]
    #[remote(module = "a")]
    Raw { r#type: u8, #[remote(name = "class")] kind: Option<Vec<u8>> },
    #[error("rest")]
    #[remote(other)]
    Rest(Box<dyn std::error::Error + Send + Sync>),
}

fn main() {
    let known: Result<NoNode, Error> = NoNode::from_error(Error::from_failure(Unit.into()));
    assert_eq!(known.unwrap_err().remote().unwrap().module(), "a.b.c");
    let failure = Everything::Raw { r#type: 1, kind: None }.into_failure();
    assert_eq!(failure.kwargs().as_str(), r#"{"type": 1, "class": null}"#);
    let _: Everything = Error::from_failure(failure).into();
}
