//! RabbitMQ: what the suite for every source does not ask.

mod away;
mod copies;
mod place;
mod refusals;
mod sink;
mod subscription;
mod tls;
