use oslo_messaging::{Context, client};

#[client]
trait Conductor: Send {
    const LIMIT: u32;

    fn plain(&self);

    async fn no_receiver(host: &str);

    async fn by_value(self);

    async fn generic<T>(&self, value: T);

    async fn with_a_body(&self) {}

    async fn pattern(&self, (a, b): (u8, u8));

    async fn context_in_the_wrong_place(&self, host: &str, ctx: &Context);

    async fn taken_name(&self, ctx: u8);

    async fn cannot_be_left_out(&self, #[optional] host: String);

    #[cast]
    async fn cast_with_a_result(&self) -> bool;

    #[cast]
    #[fanout]
    async fn both(&self);

    #[rpc(skip)]
    async fn unknown_option(&self);

    #[rpc(name = "")]
    async fn nameless(&self);
}

fn main() {}
