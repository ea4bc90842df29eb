//! A URL is text, or one that was read.

async fn connect() {
    let _ = oslo_messaging::connect(5672).await;
}

fn main() {
    let _ = connect;
}
