//! The SQL that users see.

use std::fmt;
use std::str::FromStr;

use hapax_core::{OperationId, StoreError};

use super::{VERSION, invalid};

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PostgreSQL 13 or newer.
    Postgres,
    /// MySQL 8.0.16 or newer, MariaDB 10.5 or newer.
    Mysql,
    /// SQLite 3.31 or newer.
    Sqlite,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: &[Self] = &[Self::Postgres, Self::Mysql, Self::Sqlite];

    /// The dialect of a database URL.
    ///
    /// # Errors
    /// If it is no URL of any; the password is not shown.
    pub fn of(url: &str) -> Result<Self, StoreError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => Ok(Self::Postgres),
            Some("mysql" | "mariadb") => Ok(Self::Mysql),
            Some("sqlite") => Ok(Self::Sqlite),
            _ => Err(invalid(
                "the URL of the receipts' database cannot be read: write postgres://USER@HOST/DATABASE, \
                 mysql://USER@HOST/DATABASE or sqlite:FILE",
            )),
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Sqlite => "sqlite",
        }
    }

    /// What [`install`](super::install) runs in an empty database, as a script for the database's own client.
    #[must_use]
    pub fn script(self) -> String {
        match self {
            Self::Postgres => transaction(&self.statements()),
            Self::Mysql => mysql_script(&self.statements()),
            Self::Sqlite => transaction(&self.statements()),
        }
    }

    /// The statements that make everything, one by one.
    pub(super) fn statements(self) -> Vec<String> {
        let version = format!("INSERT INTO hapax_receipt_version (version) VALUES ({VERSION})");
        match self {
            Self::Postgres => {
                let mut all = vec![
                    include_str!("postgres/table.sql").trim_end().to_owned(),
                    include_str!("postgres/version.sql").trim_end().to_owned(),
                    version,
                ];
                all.extend(self.functions().iter().map(|&text| text.trim_end().to_owned()));
                all
            }
            Self::Mysql => vec![
                MYSQL_MODE.to_owned(),
                include_str!("mysql/table.sql").trim_end().to_owned(),
                include_str!("mysql/version.sql").trim_end().to_owned(),
                include_str!("mysql/procedure.sql").trim_end().to_owned(),
                format!("INSERT INTO hapax_receipt_version (version, at) VALUES ({VERSION}, UTC_TIMESTAMP(3))"),
            ],
            Self::Sqlite => vec![
                include_str!("sqlite/table.sql").trim_end().to_owned(),
                include_str!("sqlite/version.sql").trim_end().to_owned(),
                version,
                include_str!("sqlite/trigger.sql").trim_end().to_owned(),
            ],
        }
    }

    /// The statements that write the function again.
    pub(super) fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &[
                include_str!("postgres/function.sql"),
                include_str!("postgres/function_text.sql"),
                include_str!("postgres/pin.sql"),
            ],
            Self::Mysql => &[
                MYSQL_MODE,
                "DROP PROCEDURE IF EXISTS hapax_receipt",
                include_str!("mysql/procedure.sql"),
            ],
            Self::Sqlite => &[
                "DROP TRIGGER IF EXISTS hapax_receipt_guard",
                include_str!("sqlite/trigger.sql"),
            ],
        }
    }
}

/// A procedure keeps the mode of the session that made it: a lenient one would bend arguments until they fit.
const MYSQL_MODE: &str = "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'";

fn transaction(statements: &[String]) -> String {
    let body: String = statements.iter().map(|statement| format!("{statement};\n\n")).collect();
    format!("BEGIN;\n\n{body}COMMIT;\n")
}

/// The semicolons inside the procedure are not the client's.
fn mysql_script(statements: &[String]) -> String {
    let body: String = statements
        .iter()
        .map(|statement| match statement.contains("CREATE PROCEDURE") {
            true => format!("DELIMITER //\n{statement}//\nDELIMITER ;\n\n"),
            false => format!("{statement};\n\n"),
        })
        .collect();
    body.trim_end().to_owned() + "\n"
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "postgres" | "postgresql" => Ok(Self::Postgres),
            "mysql" | "mariadb" => Ok(Self::Mysql),
            "sqlite" => Ok(Self::Sqlite),
            _ => Err(format!("{text:?} is no dialect; write postgres, mysql or sqlite")),
        }
    }
}

/// An operation from its 32 hexadecimal digits.
pub(super) fn parse_operation(text: &str) -> Option<OperationId> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = value(pair[0])? * 16 + value(pair[1])?;
    }
    Some(OperationId::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_read_as_it_is_written() {
        let id = OperationId::from_bytes([0, 1, 9, 10, 15, 16, 127, 128, 255, 4, 5, 6, 7, 8, 9, 0xab]);
        assert_eq!(parse_operation(&id.to_string()), Some(id));
        let long = format!("{id}0");
        for text in [
            "",
            &id.to_string()[1..],
            &long,
            &id.to_string().to_uppercase(),
            &"é".repeat(16),
        ] {
            assert_eq!(parse_operation(text), None, "{text}");
        }
    }

    #[test]
    fn a_url_has_a_dialect_and_keeps_its_password() {
        for (url, dialect) in [
            ("postgres://u@h/d", Dialect::Postgres),
            ("postgresql://u@h/d", Dialect::Postgres),
            ("mysql://u@h/d", Dialect::Mysql),
            ("mariadb://u@h/d", Dialect::Mysql),
            ("sqlite:shop.db", Dialect::Sqlite),
        ] {
            assert_eq!(Dialect::of(url).unwrap(), dialect);
        }
        for url in ["", "memory:", "oracle://u:s3cret@h/d", "shop.db"] {
            let error = Dialect::of(url).unwrap_err().to_string();
            assert!(
                error.contains("postgres://USER@HOST") && !error.contains("s3cret"),
                "{error}"
            );
        }
        for dialect in Dialect::ALL {
            assert_eq!(dialect.as_str().parse(), Ok(*dialect));
        }
    }
}
