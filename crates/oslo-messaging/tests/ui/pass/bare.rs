//! Without anything in brackets, on a module's type, without methods.
mod inner {
    pub struct Empty;
}

#[oslo_messaging::endpoint]
impl inner::Empty {}

fn main() {
    use oslo_messaging::Endpoint;
    assert!(inner::Empty.method("anything").is_none());
}
