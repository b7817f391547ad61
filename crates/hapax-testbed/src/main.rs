//! Servers by hand: prints what a test would connect to, and holds it until
//! standard input closes (Ctrl-D).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its caller")]

use std::io::Read;
use std::net::SocketAddr;
use std::process::ExitCode;

use hapax_testbed::{Kafka, MariaDb, Nats, Nginx, Postgres, RabbitMq, Redis};

const USAGE: &str = "\
usage: hapax-testbed postgres           a PostgreSQL server of its own
       hapax-testbed mariadb            a MariaDB server of its own
       hapax-testbed kafka              a broker with Kafka's protocol of its own
       hapax-testbed nats               a NATS server of its own, with JetStream
       hapax-testbed rabbitmq           a RabbitMQ node of its own
       hapax-testbed redis              a Redis of its own
       hapax-testbed shared             a database on the run's shared server
       hapax-testbed shared BROKER      the run's shared server: kafka, nats, rabbitmq, redis
       hapax-testbed nginx HOST:PORT    nginx in front of an upstream
Prints the URL and holds the server until standard input closes.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["postgres"] => Postgres::options().try_start().map(|server| hold(&server.url())),
        ["mariadb"] => MariaDb::try_start().map(|server| hold(&server.url())),
        ["kafka"] => Kafka::try_start().map(|server| hold(&server.url())),
        ["nats"] => Nats::try_start().map(|server| hold(&server.url())),
        ["rabbitmq"] => RabbitMq::try_start().map(|server| hold(&server.url())),
        ["redis"] => Redis::try_start().map(|server| hold(&server.url())),
        ["shared"] => Postgres::try_shared()
            .and_then(|server| server.try_database())
            .map(|database| hold(database.url())),
        ["shared", "kafka"] => Kafka::try_shared().map(|server| hold(&server.url())),
        ["shared", "nats"] => Nats::try_shared().map(|server| hold(&server.url())),
        ["shared", "rabbitmq"] => RabbitMq::try_shared().map(|server| hold(&server.url())),
        ["shared", "redis"] => Redis::try_shared().map(|server| hold(&server.url())),
        ["nginx", upstream] => match upstream.parse::<SocketAddr>() {
            Ok(upstream) => Nginx::try_start(upstream).map(|nginx| hold(&nginx.url())),
            Err(error) => {
                eprintln!("{upstream} is not an address such as 127.0.0.1:9000: {error}");
                return ExitCode::from(2);
            }
        },
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(url: &str) {
    println!("{url}");
    // An error ends the wait like the end of the input does.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
