use oslo_messaging::endpoint;

struct Conductor;

#[endpoint]
impl Conductor {
    async fn holds(&self) {
        let local = std::rc::Rc::new(1);
        std::future::ready(()).await;
        drop(local);
    }
}

fn main() {}
