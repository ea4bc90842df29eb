//! One virtual host of a broker: what a test sees of it and may do to it without touching other tests.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::process::wait_until;
use crate::rabbit::{Broker, count, erlang_binary};

const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A virtual host that belongs to one test.
#[derive(Debug, Clone)]
pub struct Vhost {
    broker: Broker,
    name: String,
}

/// A queue as the broker lists it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Whether its declaration survives a restart.
    pub durable: bool,
    /// Whether it goes with its last consumer.
    pub auto_delete: bool,
    /// Whether it belongs to one connection.
    pub exclusive: bool,
    /// Arguments of its declaration.
    pub arguments: Map<String, Value>,
    /// Messages ready to be delivered and delivered but not acknowledged.
    pub messages: u64,
    /// Messages delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Consumers on it.
    pub consumers: u64,
}

/// An exchange as the broker lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// `topic`, `fanout`, `direct` or another type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether its declaration survives a restart.
    pub durable: bool,
    /// Whether it goes with its last binding.
    pub auto_delete: bool,
}

/// A binding of a queue to an exchange other than the default one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Binding {
    /// The exchange messages come from.
    pub exchange: String,
    /// The queue they go to.
    pub queue: String,
    /// The key they are chosen by.
    pub routing_key: String,
}

/// A connection of a client to this virtual host.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// `client address:port -> broker address:port`.
    pub name: String,
    /// The name the client gave itself (`connection_name`), or nothing.
    pub client_name: String,
    /// `running`, `blocked`, `blocking`, `flow`, …
    pub state: String,
    /// Open channels.
    pub channels: u64,
}

impl Vhost {
    pub(crate) fn new(broker: Broker, name: String) -> Self {
        Self { broker, name }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The broker it is on.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The transport URL of this virtual host for the user `guest`.
    pub fn url(&self) -> String {
        self.broker.url(&self.name)
    }

    /// The transport URL of this virtual host through a proxy on `port` of 127.0.0.1.
    pub fn url_through(&self, port: u16) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{port}/{}", self.name)
    }

    /// All queues, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queues(&self) -> io::Result<Vec<Queue>> {
        const ITEMS: &str = "[name, durable, auto_delete, exclusive, arguments, messages, messages_unacknowledged, consumers]";
        let rows: Vec<Map<String, Value>> = self
            .broker
            .eval(&format!(
                "[maps:from_list([case KV of {{name, {{resource, _, _, N}}}} -> {{name, N}}; \
                 {{arguments, Table}} -> {{arguments, maps:from_list([{{K, V}} || {{K, _, V}} <- Table])}}; \
                 {{K, V}} -> {{K, V}} end || KV <- Row]) || Row <- rabbit_amqqueue:info_all({}, {ITEMS})]",
                self.binary()
            ))
            .await?;
        let mut queues: Vec<Queue> = rows.into_iter().map(Queue::read).collect();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(queues)
    }

    /// The queue `name`, if there is one.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue(&self, name: &str) -> io::Result<Option<Queue>> {
        Ok(self
            .queues()
            .await?
            .into_iter()
            .find(|queue| queue.name == name))
    }

    /// How many messages the queue `name` holds, unacknowledged ones included; `None` when there is no such queue.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn queue_depth(&self, name: &str) -> io::Result<Option<u64>> {
        Ok(self.queue(name).await?.map(|queue| queue.messages))
    }

    /// Waits until the queue `name` exists and is as `condition` wants it, and returns it.
    ///
    /// # Errors
    ///
    /// `TimedOut` after a minute, and when the broker cannot be reached.
    pub async fn wait_for_queue(
        &self,
        name: &str,
        condition: impl Fn(&Queue) -> bool,
    ) -> io::Result<Queue> {
        let mut found = None;
        wait_until(&format!("queue {name} as wanted"), WAIT_LIMIT, async || {
            found = self.queue(name).await?.filter(&condition);
            Ok(found.is_some())
        })
        .await?;
        found.ok_or_else(|| io::Error::other("the queue went while it was looked at"))
    }

    /// Deletes the queue `name` under its consumers, which the broker tells by `basic.cancel`.
    ///
    /// # Errors
    ///
    /// When there is no such queue or the broker cannot be reached.
    pub async fn delete_queue(&self, name: &str) -> io::Result<()> {
        let resource = self.resource("queue", name);
        self.broker
            .run(&format!(
                "{{ok, Queue}} = rabbit_amqqueue:lookup({resource}), \
                 {{ok, _}} = rabbit_amqqueue:delete(Queue, false, false, <<\"test\">>)"
            ))
            .await
    }

    /// Erlang name of the node where the leader of the queue `name` was when this was last written down.
    ///
    /// # Errors
    ///
    /// When there is no such queue or the broker cannot be reached.
    pub async fn queue_leader(&self, name: &str) -> io::Result<String> {
        self.broker
            .eval(&format!(
                "begin {{ok, Queue}} = rabbit_amqqueue:lookup({}), \
                 case amqqueue:get_pid(Queue) of {{_, Node}} -> Node; Pid -> node(Pid) end end",
                self.resource("queue", name)
            ))
            .await
    }

    /// Moves the leader of the quorum queue `name` to the node with the Erlang name `node`.
    ///
    /// # Errors
    ///
    /// When there is no such queue, it does not move, or the broker cannot be reached.
    pub async fn move_leader(&self, name: &str, node: &str) -> io::Result<()> {
        let node_text = erlang_text(node);
        self.broker
            .run(&format!(
                "{{ok, Queue}} = rabbit_amqqueue:lookup({}), {{Name, _}} = Leader = amqqueue:get_pid(Queue), \
                 Node = list_to_atom({node_text}), \
                 ok = ra:transfer_leadership(Leader, {{Name, Node}})",
                self.resource("queue", name)
            ))
            .await?;
        wait_until("move of a leader", WAIT_LIMIT, async || {
            Ok(self.queue_leader(name).await? == node)
        })
        .await
    }

    /// Deletes the exchange `name`.
    ///
    /// # Errors
    ///
    /// When there is no such exchange or the broker cannot be reached.
    pub async fn delete_exchange(&self, name: &str) -> io::Result<()> {
        let resource = self.resource("exchange", name);
        self.broker
            .run(&format!(
                "ok = rabbit_exchange:delete({resource}, false, <<\"test\">>)"
            ))
            .await
    }

    /// All exchanges but the broker's own, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn exchanges(&self) -> io::Result<Vec<Exchange>> {
        let mut exchanges: Vec<Exchange> = self
            .broker
            .eval(&format!(
                "[begin [{{name, {{resource, _, _, N}}}} | Rest] = Row, maps:put(name, N, maps:from_list(Rest)) end || \
                 Row <- rabbit_exchange:info_all({}, [name, type, durable, auto_delete])]",
                self.binary()
            ))
            .await?;
        exchanges
            .retain(|exchange| !exchange.name.is_empty() && !exchange.name.starts_with("amq."));
        exchanges.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(exchanges)
    }

    /// All bindings but those to the default exchange, by exchange, queue and key.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn bindings(&self) -> io::Result<Vec<Binding>> {
        let mut bindings: Vec<Binding> = self
            .broker
            .eval(&format!(
                "[#{{exchange => X, queue => Q, routing_key => K}} || \
                 {{binding, {{resource, _, _, X}}, K, {{resource, _, queue, Q}}, _}} <- rabbit_binding:list({}), \
                 X =/= <<>>]",
                self.binary()
            ))
            .await?;
        bindings.sort_by(|a, b| {
            (&a.exchange, &a.queue, &a.routing_key).cmp(&(&b.exchange, &b.queue, &b.routing_key))
        });
        Ok(bindings)
    }

    /// All client connections to this virtual host.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn connections(&self) -> io::Result<Vec<Connection>> {
        self.broker
            .eval(&format!(
                "[#{{name => N, state => S, channels => C, client_name => \
                 case lists:keyfind(<<\"connection_name\">>, 1, P) of {{_, _, Own}} -> Own; false -> <<>> end}} || \
                 [{{name, N}}, {{state, S}}, {{channels, C}}, {{client_properties, P}}, {{vhost, V}}] <- \
                 rabbit_networking:connection_info_all([name, state, channels, client_properties, vhost]), V =:= {}]",
                self.binary()
            ))
            .await
    }

    /// Waits until `condition` holds for the connections to this virtual host.
    ///
    /// # Errors
    ///
    /// `TimedOut` after a minute, and when the broker cannot be reached.
    pub async fn wait_for_connections(
        &self,
        condition: impl Fn(&[Connection]) -> bool,
    ) -> io::Result<()> {
        let what = "connections as wanted";
        wait_until(what, WAIT_LIMIT, async || {
            Ok(condition(&self.connections().await?))
        })
        .await
    }

    /// Closes every connection to this virtual host from the broker's side (`connection.close` 320 with `reason`).
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn close_connections(&self, reason: &str) -> io::Result<()> {
        self.broker
            .run(&format!(
                "[rabbit_networking:close_connection(P, {}) || [{{pid, P}}, {{vhost, V}}] <- \
                 rabbit_networking:connection_info_all([pid, vhost]), V =:= {}]",
                erlang_text(reason),
                self.binary()
            ))
            .await
    }

    /// Lets `user` configure, write and read what the three patterns match, on this virtual host.
    ///
    /// # Errors
    ///
    /// When there is no such user or the broker cannot be reached.
    pub async fn set_permissions(
        &self,
        user: &str,
        configure: &str,
        write: &str,
        read: &str,
    ) -> io::Result<()> {
        let patterns = [configure, write, read].map(erlang_binary).join(", ");
        let (user, vhost) = (erlang_binary(user), self.binary());
        self.broker
            .run(&format!(
                "ok = rabbit_auth_backend_internal:set_permissions({user}, {vhost}, {patterns}, <<\"test\">>)"
            ))
            .await
    }

    /// Deletes the virtual host with all that is in it; its connections are closed.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn delete(self) -> io::Result<()> {
        self.broker
            .run(&format!(
                "rabbit_vhost:delete({}, <<\"test\">>)",
                self.binary()
            ))
            .await
    }

    fn binary(&self) -> String {
        erlang_binary(&self.name)
    }

    fn resource(&self, kind: &str, name: &str) -> String {
        format!(
            "{{resource, {}, {kind}, {}}}",
            self.binary(),
            erlang_binary(name)
        )
    }
}

impl Queue {
    fn read(row: Map<String, Value>) -> Self {
        let flag = |key: &str| row.get(key).and_then(Value::as_bool).unwrap_or(false);
        let number = |key: &str| row.get(key).map_or(0, count);
        Self {
            name: row
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            durable: flag("durable"),
            auto_delete: flag("auto_delete"),
            exclusive: flag("exclusive"),
            arguments: row
                .get("arguments")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            messages: number("messages"),
            unacknowledged: number("messages_unacknowledged"),
            consumers: number("consumers"),
        }
    }
}

/// `text` as an Erlang string (a list of characters), safe to put into an expression.
fn erlang_text(text: &str) -> String {
    let characters: Vec<String> = text.chars().map(|c| u32::from(c).to_string()).collect();
    format!("[{}]", characters.join(","))
}
