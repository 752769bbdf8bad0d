//! The rows of a table, and the code that runs and prints them.

use std::{collections::BTreeMap, time::Instant};

use aside::config::Config;
use serde_json::Value;
use sqlx::PgPool;

use crate::support::{Client, PATIENCE, Reply, TestApp, order, product, raw::RawConnection, tokens::token as signer};

/// The rows of one topic, with the settings of the instance that receives them.
pub struct Table {
    pub topic: &'static str,
    pub settings: fn(&mut Config),
    pub rows: Vec<Row>,
}

/// One requirement of a section, with the request that shows it.
pub struct Row {
    source: &'static str,
    rule: &'static str,
    before: Vec<String>,
    head: String,
    body: String,
    shown: String,
    answer: Vec<Expectation>,
    elsewhere: Option<&'static str>,
}

enum Expectation {
    Status(u16),
    Has(&'static str, String),
    Contains(&'static str, String),
    Lists(&'static str, &'static str),
    Lacks(&'static str),
    Problem(&'static str, u16),
    Names(&'static str),
    Says(&'static str, Value),
    Body(String),
    ProvenSinceRead,
}

/// Creates a row from the name of a section and a requirement of it.
pub fn row(source: &'static str, rule: &'static str) -> Row {
    Row {
        source,
        rule,
        before: Vec::new(),
        head: String::new(),
        body: String::new(),
        shown: String::new(),
        answer: Vec::new(),
        elsewhere: None,
    }
}

impl Row {
    /// Sends `METHOD target` as HTTP/1.1 with a host.
    pub fn request(mut self, line: &str) -> Self {
        self.shown = line.into();
        self.head = format!("{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        self
    }

    /// Sends this head unchanged and ends each line as HTTP requires.
    pub fn raw(mut self, head: &str) -> Self {
        self.shown = head.replace('\n', " · ");
        self.head = format!("{}\r\nConnection: close\r\n", head.replace('\n', "\r\n"));
        self
    }

    /// Adds a header to the request.
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let line = format!("{name}: {}", value.as_ref());
        self.shown += &format!(" · {line}");
        self.head += &format!("{line}\r\n");
        self
    }

    /// Adds a JSON body to the request.
    pub fn json(mut self, body: &str) -> Self {
        self.shown += &format!(" · {body}");
        self.head += "Content-Type: application/json\r\n";
        self.body = body.into();
        self
    }

    /// Sends `GET` to this path first.
    pub fn after(mut self, path: &str) -> Self {
        self.before.push(path.into());
        self
    }

    /// Lets more than a second pass first.
    pub fn after_a_second(self) -> Self {
        self.after("")
    }

    pub fn status(mut self, status: u16) -> Self {
        self.answer.push(Expectation::Status(status));
        self
    }

    /// Expects this header with this value.
    pub fn has(mut self, name: &'static str, value: &str) -> Self {
        self.answer.push(Expectation::Has(name, value.into()));
        self
    }

    /// Expects this header with `part` in its value. An empty `part` accepts any value.
    pub fn contains(mut self, name: &'static str, part: &str) -> Self {
        self.answer.push(Expectation::Contains(name, part.into()));
        self
    }

    /// Expects this header with `member` in its list of names, in any case.
    pub fn lists(mut self, name: &'static str, member: &'static str) -> Self {
        self.answer.push(Expectation::Lists(name, member));
        self
    }

    /// Expects that this header is absent.
    pub fn lacks(mut self, name: &'static str) -> Self {
        self.answer.push(Expectation::Lacks(name));
        self
    }

    /// Expects a problem of this kind.
    pub fn problem(mut self, kind: &'static str, status: u16) -> Self {
        self.answer.push(Expectation::Problem(kind, status));
        self
    }

    /// Expects a problem that names this place.
    pub fn names(mut self, place: &'static str) -> Self {
        self.answer.push(Expectation::Names(place));
        self
    }

    /// Expects this value at this JSON pointer of the body.
    pub fn says(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.answer.push(Expectation::Says(pointer, value.into()));
        self
    }

    /// Expects this text as the body.
    pub fn body(mut self, text: &str) -> Self {
        self.answer.push(Expectation::Body(text.into()));
        self
    }

    /// Expects an `Age` below the time since the database was read. The next poll of the ledger
    /// makes this true.
    pub fn proven_since_it_was_read(mut self) -> Self {
        self.answer.push(Expectation::ProvenSinceRead);
        self
    }

    /// Names the test that shows the requirement, because a single request cannot show it.
    pub fn shown_by(mut self, test: &'static str) -> Self {
        self.elsewhere = Some(test);
        self
    }
}

/// The placeholders of rows. `{product}` and `{order}` are ids, `{tag}` is of the product, and
/// `{epoch}` and `{moment}` are of a token.
type Places = BTreeMap<&'static str, String>;

fn filled(text: &str, places: &Places) -> String {
    places.iter().fold(text.to_owned(), |text, (place, value)| text.replace(&format!("{{{place}}}"), value))
}

/// Sends all rows to one instance and compares the answers.
pub async fn check(pool: PgPool, table: Table) {
    // An instance without authentication creates the data.
    let app = TestApp::start(pool).await;
    let id = app.product(product().price(199)).await;
    let number = app.order(order(1).item(id, 1)).await;
    let read = app.get_product(id).await;
    let token = read.must_have("consistency-token");
    let (epoch, moment) = token.split_once('-').expect("an epoch and a moment");
    let places = Places::from([
        ("product", id.to_string()),
        ("order", number.to_string()),
        ("tag", read.etag()),
        ("epoch", epoch.to_owned()),
        ("moment", moment.to_owned()),
        ("weak", signer("acme").with("scope", "orders:write").signed()),
        ("tomorrow", (moment.parse::<i64>().expect("microseconds") + 86_400_000_000).to_string()),
    ]);
    let instance = app.another_with(|config| (table.settings)(config)).await;
    let mut wrong = Vec::new();
    for row in table.rows.iter().filter(|row| row.elsewhere.is_none()) {
        let begun = Instant::now();
        let found = loop {
            let reply = row.run(&app, &instance, &places).await;
            let found: Vec<String> = row.answer.iter().filter_map(|one| one.judge(&reply, &places).err()).collect();
            // A busy machine may poll late, and the next poll decides.
            let may_be_late = row.answer.iter().any(|one| matches!(one, Expectation::ProvenSinceRead));
            if found.is_empty() || !may_be_late || begun.elapsed() > PATIENCE {
                break found;
            }
        };
        wrong.extend(
            found
                .iter()
                .map(|found| format!("{}: {}\n  {}\n  {found}", row.source, row.rule, filled(&row.shown, &places))),
        );
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.topic, wrong.join("\n"));
}

impl Row {
    async fn run(&self, app: &TestApp, instance: &Client, places: &Places) -> Reply {
        for path in &self.before {
            match path.as_str() {
                // Such a row is about the passing of time, so the test lets time pass.
                "" => drop(sqlx::query("select pg_sleep(1.1)").execute(&app.pool).await.expect("time passes")),
                path => drop(instance.get(&filled(path, places)).await),
            }
        }
        let body = filled(&self.body, places);
        let mut head = filled(&self.head, places);
        if !body.is_empty() && !head.contains("Content-Length") {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut line = RawConnection::open(instance.address).await;
        line.send(format!("{head}\r\n{body}").as_bytes()).await;
        line.reply().await
    }

    /// Returns the row as Markdown.
    fn printed(&self) -> String {
        let before = self.before.iter().filter(|path| !path.is_empty()).map(|path| format!("`GET {path}`, then "));
        let cell = |text: &str| text.replace('|', "\\|").replace("\r\n", "");
        let code = |text: &str| format!("`{}`", cell(text).replace('`', "'"));
        let shown = if self.shown.chars().count() > 150 {
            format!("{}…", self.shown.chars().take(150).collect::<String>())
        } else {
            self.shown.clone()
        };
        let (request, answer) = match self.elsewhere {
            Some(test) => (String::new(), format!("shown by `{test}`")),
            None => (
                before.collect::<String>() + &code(&shown),
                self.answer.iter().map(|one| cell(&one.printed())).collect::<Vec<_>>().join(", "),
            ),
        };
        format!("| {} | {} | {request} | {answer} |", self.source, cell(self.rule))
    }
}

impl Table {
    /// Returns the table as Markdown.
    pub fn printed(&self) -> String {
        let rows: Vec<String> = self.rows.iter().map(Row::printed).collect();
        format!("## {}\n\n| source | rule | sent | answered |\n|---|---|---|---|\n{}\n", self.topic, rows.join("\n"))
    }
}

impl Expectation {
    fn judge(&self, reply: &Reply, places: &Places) -> Result<(), String> {
        let header = |name: &str| reply.header(name);
        let ended = |holds: bool, what: String| if holds { Ok(()) } else { Err(format!("{what}\n  {reply:?}")) };
        match self {
            Self::Status(status) => ended(reply.status == *status, format!("not {status}")),
            Self::Has(name, value) => {
                let value = filled(value, places);
                ended(header(name).as_deref() == Some(&value), format!("not {name}: {value}, but {:?}", header(name)))
            }
            Self::Contains(name, part) => {
                let part = filled(part, places);
                let holds = header(name).is_some_and(|value| value.contains(&part));
                ended(holds, format!("no {part} in {name}: {:?}", header(name)))
            }
            Self::Lists(name, member) => {
                let is_it = |given: &str| given.trim().eq_ignore_ascii_case(member);
                let holds = header(name).is_some_and(|value| value.split(',').any(is_it));
                ended(holds, format!("no {member} in {name}: {:?}", header(name)))
            }
            Self::Lacks(name) => ended(header(name).is_none(), format!("{name}: {:?}", header(name))),
            Self::Problem(kind, status) => {
                let typed = header("content-type").as_deref() == Some("application/problem+json");
                let named = reply.text.contains(&format!("\"/problems/{kind}\"")) || reply.text.is_empty();
                ended(reply.status == *status && typed && named, format!("not {kind}, {status}"))
            }
            Self::Names(place) => {
                let json: Value = serde_json::from_str(&reply.text).unwrap_or_default();
                let errors = json["errors"].as_array().cloned().unwrap_or_default();
                let at = |error: &Value| ["pointer", "parameter", "header"].iter().any(|kind| error[*kind] == *place);
                ended(errors.iter().any(at), format!("no error names {place}"))
            }
            Self::Says(pointer, value) => {
                let json: Value = serde_json::from_str(&reply.text).unwrap_or_default();
                ended(json.pointer(pointer) == Some(value), format!("not {value} at {pointer}"))
            }
            Self::ProvenSinceRead => {
                let age: Option<u64> = header("age").and_then(|age| age.parse().ok());
                let status = header("cache-status").unwrap_or_default();
                let read = status
                    .split("aside-read-age=")
                    .nth(1)
                    .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
                ended(age.is_some() && age < read, format!("age {age:?}, read {read:?} s ago"))
            }
            Self::Body(text) => ended(reply.text == filled(text, places), format!("the body is not {text:?}")),
        }
    }

    fn printed(&self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::Has(name, value) if value.is_empty() => format!("`{name}` empty"),
            Self::Has(name, value) => format!("`{name}: {value}`"),
            Self::Contains(name, part) if part.is_empty() => format!("`{name}`"),
            Self::Contains(name, part) => format!("`{part}` in `{name}`"),
            Self::Lists(name, member) => format!("`{member}` in `{name}`"),
            Self::Lacks(name) => format!("no `{name}`"),
            Self::Problem(kind, status) => format!("{status} `{kind}`"),
            Self::Names(place) => format!("names `{place}`"),
            Self::Says(pointer, value) => format!("`{pointer}` is `{value}`"),
            Self::ProvenSinceRead => "`Age` below `aside-read-age` in `Cache-Status`".into(),
            Self::Body(text) if text.is_empty() => "no body".into(),
            Self::Body(text) => format!("the body `{text}`"),
        }
    }
}
