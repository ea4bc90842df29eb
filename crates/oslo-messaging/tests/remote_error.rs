//! `#[derive(RemoteError)]`: remote exceptions become values of one's own type, and back.

#![cfg(feature = "macros")]
#![allow(clippy::unwrap_used)]

use oslo_messaging::{
    Error, ErrorKind, FromRemote, IntoFailure, RemoteError, RpcClient, RpcServer, Target, endpoint,
};

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
enum ComputeError {
    #[error("Instance {instance_id} could not be found.")]
    #[remote(alias = "ServerNotFound", alias = "nova.compat.NoInstance")]
    InstanceNotFound { instance_id: String },
    #[error("{reason} (code {code})")]
    Invalid {
        #[remote(name = "why")]
        reason: String,
        #[remote(default)]
        code: u16,
        hint: Option<String>,
    },
    #[error("no key {0}")]
    #[remote(module = "builtins", class = "KeyError")]
    NoKey(String),
    #[error("{text}")]
    #[remote(module = "builtins", class = "OSError", alias = "FileNotFoundError")]
    Os {
        #[remote(arg)]
        errno: i32,
        #[remote(message)]
        text: String,
        #[remote(skip)]
        tries: u8,
    },
    #[error("quota exceeded")]
    OverQuota,
    #[error("built without arguments")]
    #[remote(no_args)]
    Bare,
    #[error(transparent)]
    #[remote(other)]
    Other(Error),
}

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "cinder.exception")]
#[error("Volume {volume_id} could not be found.")]
struct VolumeNotFound {
    volume_id: String,
}

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "cinder.exception")]
enum Narrow {
    #[error("no volume")]
    VolumeNotFound { volume_id: String },
    #[error("another exception: {}", .0.class())]
    #[remote(unknown)]
    Unknown(RemoteError),
}

#[derive(Debug, thiserror::Error, RemoteError)]
#[remote(module = "nova.exception")]
#[error("the disk of {host} cannot be read")]
struct DiskFailure {
    host: String,
    #[source]
    #[remote(skip)]
    cause: Cause,
}

#[derive(Debug, Default, thiserror::Error)]
#[error("sector {sector} is bad")]
struct Cause {
    sector: u32,
    source: Root,
}

#[derive(Debug, Default, thiserror::Error)]
#[error("head crash")]
struct Root;

fn remote(module: &str, class: &str) -> RemoteError {
    RemoteError::new(class, module, "text of the peer")
}

fn kwargs(failure: RemoteError, text: &str) -> RemoteError {
    let value = oslo_messaging::RawJson::from_text(text).unwrap();
    failure.with_kwargs(&value).unwrap()
}

fn instance(module: &str, class: &str) -> Error {
    Error::from_failure(kwargs(
        remote(module, class),
        r#"{"instance_id": "i-1", "code": 404}"#,
    ))
}

#[test]
fn a_remote_class_becomes_its_variant_with_the_arguments_in_its_fields() {
    let error = ComputeError::from(instance("nova.exception", "InstanceNotFound"));
    assert!(
        matches!(&error, ComputeError::InstanceNotFound { instance_id } if instance_id == "i-1"),
        "{error:?}"
    );

    let failure = RemoteError::builtin("KeyError", "'a'").with_args(&["a"]);
    let error = ComputeError::from(Error::from_failure(failure.unwrap()));
    assert!(matches!(&error, ComputeError::NoKey(key) if key == "a"));

    let failure = RemoteError::builtin("FileNotFoundError", "[Errno 2] No such file: 'f'")
        .with_args(&(2, "No such file"));
    let error = ComputeError::from(Error::from_failure(failure.unwrap()));
    let ComputeError::Os { errno, text, tries } = error else {
        panic!("{error:?}")
    };
    assert_eq!(
        (errno, text.as_str(), tries),
        (2, "[Errno 2] No such file: 'f'", 0)
    );

    let error = ComputeError::from(Error::from_failure(remote("nova.exception", "OverQuota")));
    assert!(matches!(error, ComputeError::OverQuota));
    let error = VolumeNotFound::from_error(Error::from_failure(kwargs(
        remote("cinder.exception", "VolumeNotFound"),
        r#"{"volume_id": "v-1"}"#,
    )));
    assert_eq!(error.unwrap().volume_id, "v-1");
}

#[test]
fn other_names_of_a_class_and_those_that_python_gives_rebuilt_exceptions_are_known() {
    for (module, class) in [
        ("nova.exception", "ServerNotFound"),
        ("nova.compat", "NoInstance"),
        ("nova.exception_Remote", "InstanceNotFound_Remote"),
    ] {
        let error = ComputeError::from(instance(module, class));
        assert!(
            matches!(error, ComputeError::InstanceNotFound { .. }),
            "{module}.{class}: {error:?}"
        );
    }
    let old = RemoteError::new("KeyError", "exceptions", "'a'");
    let error = ComputeError::from_error(Error::from_failure(old)).unwrap();
    assert!(matches!(error, ComputeError::NoKey(_)));
}

#[test]
fn missing_arguments_are_none_or_the_default_where_the_field_allows() {
    let read = |text: &str| {
        let failure = kwargs(remote("nova.exception", "Invalid"), text);
        ComputeError::from_error(Error::from_failure(failure))
    };
    let error = read(r#"{"why": "bad", "extra": [1]}"#).unwrap();
    assert!(
        matches!(&error, ComputeError::Invalid { reason, code: 0, hint: None } if reason == "bad"),
        "{error:?}"
    );
    let error = read(r#"{"why": "bad", "code": null, "hint": "try"}"#).unwrap();
    assert!(
        matches!(&error, ComputeError::Invalid { code: 0, hint: Some(hint), .. } if hint == "try")
    );
    // Neither missing nor of another type.
    for text in [
        r#"{"code": 1}"#,
        r#"{"why": 5}"#,
        r#"{"why": "a", "code": -1}"#,
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.remote().unwrap().class(), "Invalid", "{text}");
    }
}

#[test]
fn what_is_no_variant_goes_to_the_catch_all_or_back_to_the_error_it_was() {
    for (module, class) in [
        ("nova.exception", "Strange"),
        ("elsewhere", "InstanceNotFound"),
    ] {
        let ComputeError::Other(error) = ComputeError::from(instance(module, class)) else {
            panic!("{class}")
        };
        assert_eq!(error.remote().unwrap().class(), class);
        let error = VolumeNotFound::from_error(instance(module, class)).unwrap_err();
        assert_eq!(error.remote().unwrap().module(), module);
    }
    let late = || Error::new(ErrorKind::Timeout, "no reply");
    let ComputeError::Other(error) = ComputeError::from(late()) else {
        panic!("a time-out is no exception")
    };
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(
        VolumeNotFound::from_error(late()).unwrap_err().kind(),
        ErrorKind::Timeout
    );

    let unknown = Narrow::from_error(instance("nova.exception", "InstanceNotFound")).unwrap();
    assert_eq!(unknown.to_string(), "another exception: InstanceNotFound");
    assert_eq!(
        Narrow::from_error(late()).unwrap_err().kind(),
        ErrorKind::Timeout,
        "no remote exception at all"
    );
}

#[test]
fn a_value_is_sent_under_its_class_with_positional_and_keyword_arguments() {
    let sent = |error: ComputeError| {
        let failure = error.into_failure();
        let name = format!("{}.{}", failure.module(), failure.class());
        let message = failure.message().to_owned();
        (
            name,
            message,
            failure.args().to_string(),
            failure.kwargs().to_string(),
        )
    };
    let expect = |name: &str, message: &str, args: &str, kwargs: &str| {
        (
            name.to_owned(),
            message.to_owned(),
            args.to_owned(),
            kwargs.to_owned(),
        )
    };
    let instance_id = "i-1".to_owned();
    assert_eq!(
        sent(ComputeError::InstanceNotFound { instance_id }),
        expect(
            "nova.exception.InstanceNotFound",
            "Instance i-1 could not be found.",
            "[]",
            r#"{"instance_id": "i-1"}"#
        )
    );
    let (reason, hint) = ("bad".to_owned(), None);
    assert_eq!(
        sent(ComputeError::Invalid {
            reason,
            code: 7,
            hint
        }),
        expect(
            "nova.exception.Invalid",
            "bad (code 7)",
            "[]",
            r#"{"why": "bad", "code": 7, "hint": null}"#
        )
    );
    assert_eq!(
        sent(ComputeError::NoKey("é".to_owned())),
        expect("builtins.KeyError", "no key é", r#"["\u00e9"]"#, "{}")
    );
    let text = "gone".to_owned();
    assert_eq!(
        sent(ComputeError::Os {
            errno: 2,
            text,
            tries: 9
        }),
        expect("builtins.OSError", "gone", "[2]", "{}")
    );
    assert_eq!(
        sent(ComputeError::OverQuota),
        expect(
            "nova.exception.OverQuota",
            "quota exceeded",
            r#"["quota exceeded"]"#,
            "{}"
        )
    );
    assert_eq!(
        sent(ComputeError::Bare),
        expect("nova.exception.Bare", "built without arguments", "[]", "{}")
    );
}

#[test]
fn a_catch_all_passes_a_remote_exception_on_under_its_first_name() {
    let error = ComputeError::from(instance("glance.exception", "ImageNotFound"));
    let failure = RemoteError::from(error);
    assert_eq!(
        (failure.module(), failure.class()),
        ("glance.exception", "ImageNotFound")
    );
    assert_eq!(
        failure.kwargs().as_str(),
        r#"{"instance_id": "i-1", "code": 404}"#
    );
    let late = ComputeError::from(Error::new(ErrorKind::Timeout, "no reply")).into_failure();
    assert_eq!(late.class(), "MessagingTimeout");
    let narrow = Narrow::Unknown(remote("a.b", "C")).into_failure();
    assert_eq!((narrow.module(), narrow.class()), ("a.b", "C"));
}

#[test]
fn what_caused_an_error_is_its_traceback_the_first_cause_first() {
    let cause = Cause {
        sector: 7,
        source: Root,
    };
    let host = "node-7".to_owned();
    let failure = DiskFailure { host, cause }.into_failure();
    let between =
        "\nThe above exception was the direct cause of the following exception:\n\n".to_owned();
    assert_eq!(
        failure.traceback(),
        [
            "head crash\n".to_owned(),
            between.clone(),
            "sector 7 is bad\n".to_owned(),
            between,
            "nova.exception.DiskFailure: the disk of node-7 cannot be read\n".to_owned(),
        ]
    );
    assert!(ComputeError::Bare.into_failure().traceback().is_empty());
}

struct Compute;

#[endpoint]
impl Compute {
    fn boot(&self, instance_id: String) -> Result<String, ComputeError> {
        match instance_id.as_str() {
            "i-1" => Ok("booted".to_owned()),
            "" => Err(ComputeError::OverQuota),
            _ => Err(ComputeError::InstanceNotFound { instance_id }),
        }
    }
}

/// `?` turns what the call gave into the caller's own type.
async fn boot(client: &RpcClient, instance_id: &str) -> Result<String, ComputeError> {
    let args = std::collections::HashMap::from([("instance_id", instance_id)]);
    Ok(client.call(&Default::default(), "boot", args).await?)
}

#[tokio::test]
async fn an_error_of_a_rust_server_is_the_same_value_at_a_rust_client() {
    let transport = oslo_messaging::connect("memory://remote-error")
        .await
        .unwrap();
    let target = Target::topic("compute").server("one");
    let server = RpcServer::builder(transport.clone(), target)
        .endpoint(Compute)
        .start()
        .await
        .unwrap();
    let client = RpcClient::new(transport, Target::topic("compute"));
    assert_eq!(boot(&client, "i-1").await.unwrap(), "booted");
    let error = boot(&client, "i-2").await.unwrap_err();
    assert!(
        matches!(&error, ComputeError::InstanceNotFound { instance_id } if instance_id == "i-2"),
        "{error:?}"
    );
    let error = boot(&client, "").await.unwrap_err();
    assert!(matches!(error, ComputeError::OverQuota), "{error:?}");
    server.stop().await;
}
