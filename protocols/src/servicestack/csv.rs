//! CSV, in which a request is a line of names and a line of values, and an answer is no more than its first list.
//!
//! That is the framework's own rule, and it makes CSV of little use here: the answer to a login is its roles on one line, and
//! a "no" has no body at all. What it says is in the status and the cookies.

use std::cell::RefCell;

use csv_core::{ReadFieldResult, Reader};

use crate::servicestack::dto::{Data, Dto};
use crate::servicestack::jsv;
use crate::servicestack::style::push_shortest;
use crate::servicestack::value::{Budget, Fields, Unreadable, Value};

thread_local! {
    /// Made once for a thread, since its tables take longer to make than a request takes to read. A copy would not do: what the
    /// library copies of a reader emits nothing.
    static READER: RefCell<Reader> = RefCell::new(Reader::new());
}

/// Reads the first line of values below the names. An empty cell says nothing; lists and maps are JSV in their cell.
///
/// # Errors
/// There are more values than names, or a bound is passed.
pub(super) fn read(text: &str) -> Result<Fields<'static>, Unreadable> {
    rows(text, 1)?.pop().map_or_else(|| Ok(Fields::default()), Fields::of)
}

/// Reads every line of values below the names, each as an object.
///
/// # Errors
/// As of [`read`].
pub(super) fn read_all(text: &str) -> Result<Vec<Value<'static>>, Unreadable> {
    rows(text, usize::MAX)
}

fn rows(text: &str, most: usize) -> Result<Vec<Value<'static>>, Unreadable> {
    READER.with_borrow_mut(|reader| rows_by(reader, text, most))
}

fn rows_by(reader: &mut Reader, text: &str, most: usize) -> Result<Vec<Value<'static>>, Unreadable> {
    let mut lines = Lines::of(reader, text);
    let names = lines.line()?;
    let mut rows = Vec::new();
    while rows.len() < most {
        let values = lines.line()?;
        if values.len() > names.len() {
            return Err(Unreadable::Shape);
        }
        // No line at all has no cell either, an empty one has one.
        if values.is_empty() {
            break;
        }
        let value = |text: String| if text.is_empty() { Value::Null } else { Value::Text(text.into()) };
        rows.push(Value::Map(names.iter().cloned().map(Into::into).zip(values.into_iter().map(value)).collect()));
    }
    Ok(rows)
}

/// A text, line by line.
struct Lines<'a> {
    reader: &'a mut Reader,
    budget: Budget,
    rest: &'a [u8],
    /// Room for any cell, and for one more byte: no cell fills it.
    cell: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn of(reader: &'a mut Reader, text: &'a str) -> Lines<'a> {
        reader.reset();
        Lines { reader, budget: Budget::new(), rest: text.as_bytes(), cell: vec![0; text.len() + 1] }
    }

    /// The cells of the next line; none at the end of the text.
    fn line(&mut self) -> Result<Vec<String>, Unreadable> {
        let mut cells = Vec::new();
        let mut length = 0;
        loop {
            let (result, read, written) = self.reader.read_field(self.rest, &mut self.cell[length..]);
            self.rest = &self.rest[read..];
            length += written;
            match result {
                ReadFieldResult::Field { record_end } => {
                    self.budget.spend()?;
                    let cell = std::str::from_utf8(&self.cell[..length]).map_err(|_| Unreadable::Encoding)?;
                    cells.push(cell.to_owned());
                    length = 0;
                    if record_end {
                        return Ok(cells);
                    }
                }
                // Nothing is left, which the reader learns when it is asked once more.
                ReadFieldResult::InputEmpty => {}
                ReadFieldResult::OutputFull => return Err(Unreadable::TooMany),
                ReadFieldResult::End => return Ok(cells),
            }
        }
    }
}

/// Writes the first list that an answer has; nothing where it has none, or none that holds anything.
pub(super) fn write(dto: &Dto<'_>) -> String {
    let mut out = String::new();
    let is_list = |data: &&Data<'_>| matches!(data, Data::Texts(_) | Data::Dtos(..));
    match dto.members.iter().map(|(_, data)| data).find(is_list) {
        Some(Data::Texts(texts)) if !texts.is_empty() => push_line(&mut out, texts.iter(), |out, text| push_text(out, text)),
        Some(Data::Dtos(_, dtos)) => {
            if let Some(first) = dtos.first() {
                push_line(&mut out, first.members.iter(), |out, (name, _)| push_text(out, name));
            }
            for dto in dtos {
                push_line(&mut out, dto.members.iter(), |out, (_, data)| push_data(out, data));
            }
        }
        _ => {}
    }
    out
}

fn push_line<T>(out: &mut String, cells: impl Iterator<Item = T>, mut push: impl FnMut(&mut String, T)) {
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, cell);
    }
    out.push_str("\r\n");
}

fn push_data(out: &mut String, data: &Data<'_>) {
    match data {
        Data::Null => {}
        Data::Text(text) => push_text(out, text),
        Data::Bool(truth) => out.push_str(if *truth { "True" } else { "False" }),
        Data::Moment(moment) => push_shortest(out, *moment),
        Data::Map(entries) => {
            let mut map = String::new();
            jsv::push_map(&mut map, entries);
            push_text(out, &map);
        }
        // No row of ours holds a list or an object.
        Data::Texts(_) | Data::Dto(_) | Data::Dtos(..) => {}
    }
}

/// A cell that a spreadsheet would take for a formula begins with an apostrophe, which makes it a text there.
fn push_text(out: &mut String, text: &str) {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !is_formula && !text.contains([',', '"', '\r', '\n']) && !text.starts_with(['[', '{']) {
        return out.push_str(text);
    }
    out.push('"');
    if is_formula {
        out.push('\'');
    }
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    use gatepost_identity::clock::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::servicestack::value::MOST;

    fn login(text: &str) -> Result<[Option<String>; 3], Unreadable> {
        let fields = read(text)?;
        Ok(["UserName", "Password", "Meta"].map(|name| fields.peek(name).map(str::to_owned)))
    }

    #[test]
    fn a_request_is_a_line_of_names_and_a_line_of_values() {
        let told = |name: &str, password: &str, meta: &str| {
            Ok([name, password, meta].map(|text| Some(text.to_owned()).filter(|text| !text.is_empty())))
        };
        assert_eq!(login("UserName,Password\r\nada,\"p,\"\"w\"\r\n"), told("ada", "p,\"w", ""));
        assert_eq!(login("userName,PASSWORD,Meta\nada,=1+1,{ignore:jwt}\nbob,x,"), told("ada", "=1+1", "{ignore:jwt}"));
        assert_eq!(login("UserName,Password,Meta\r\nada"), told("ada", "", ""));
        assert_eq!(login("UserName,Password\r\n"), told("", "", ""));
        assert_eq!(login("UserName\nada,more"), Err(Unreadable::Shape));
        assert_eq!(login(&format!("{}a\nb", "a,".repeat(MOST))), Err(Unreadable::TooMany));
    }

    #[test]
    fn an_answer_is_its_first_list() {
        let check = |members: Vec<(&'static str, Data<'_>)>, expected: &str| {
            assert_eq!(write(&Dto { name: "Answer", members }), expected);
        };
        let texts = |texts: &[&'static str]| Data::Texts(texts.iter().map(|text| (*text).into()).collect());
        let name = ("UserName", Data::Text("ada".into()));
        check(vec![name.clone(), ("Roles", texts(&["Admin", "Employee"])), ("Permissions", texts(&["p"]))], "Admin,Employee\r\n");
        check(vec![name.clone(), ("Roles", texts(&[])), ("Permissions", texts(&["p"]))], "");
        check(vec![name], "");
        let key = |key: &'static str, expiry| Dto {
            name: "UserApiKey",
            members: vec![
                ("Key", Data::Text(key.into())),
                ("Good", Data::Bool(true)),
                ("ExpiryDate", expiry),
                ("Meta", Data::Map(vec![("a".into(), "b,c".into())])),
            ],
        };
        let keys = vec![key("k\"1", Data::Moment(Timestamp::from_millis(1_741_064_767_000))), key("k2", Data::Null)];
        check(
            vec![("Results", Data::Dtos("UserApiKey", keys))],
            "Key,Good,ExpiryDate,Meta\r\n\"k\"\"1\",True,2025-03-04T05:06:07Z,\
             \"{a:\"\"b,c\"\"}\"\r\nk2,True,,\"{a:\"\"b,c\"\"}\"\r\n",
        );
        check(vec![("Results", Data::Dtos("UserApiKey", Vec::new()))], "");
    }

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, written) in [
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(\"a\")", "\"'@SUM(\"\"a\"\")\""),
            ("\t=1", "\"'\t=1\""),
            ("a=1", "a=1"),
            ("[x]", "\"[x]\""),
            ("{x}", "\"{x}\""),
        ] {
            let dto = Dto { name: "Answer", members: vec![("Roles", Data::Texts(vec![cell.into()]))] };
            assert_eq!(write(&dto), format!("{written}\r\n"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn cells_are_read_back(cells in prop::collection::vec("[^=+@\t\r-][^\u{0}]{0,8}", 1..4)) {
            let names = cells.iter().enumerate().map(|(index, _)| format!("n{index}")).collect::<Vec<_>>();
            let dto = Dto { name: "Answer", members: vec![("Roles", Data::Texts(cells.iter().map(|cell| cell.into()).collect()))] };
            let fields = read(&format!("{}\r\n{}", names.join(","), write(&dto))).unwrap();
            for (name, cell) in names.iter().zip(&cells) {
                prop_assert_eq!(fields.peek(name), Some(&**cell));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop_oneof![any::<String>(), "[a,\"\r\n]{0,40}"]) {
            let names = text.matches(',').count() + 1;
            prop_assert!(read(&text).map_or(true, |fields| fields.names().count() <= names));
        }
    }
}
