//! Where one request ends and the next begins, read before anybody else reads it.
//!
//! Whoever stands in front of us and whoever stands behind must cut the same bytes into the same requests; what they could cut in two
//! ways is how one request is smuggled within another. So what the standard leaves to the reader's leniency is refused here, for
//! every listener: lines that do not end with CR LF, a length beside a coding, two lengths, codings other than `chunked`, chunks whose
//! size is not plainly a number, no `Host` or two of them (RFC 9112 sections 2.2, 3.2, 6.1, 6.3 and 7.1). It follows the bytes and
//! understands no more of them than that. What is refused is made unreadable for the HTTP library, which then says 400 in its order
//! and hangs up. Whether it does so is not left to its reading: of the bytes it has those up to where the request went wrong, and
//! then what ends a head, or breaks a body off, and nothing else ever.
//!
//! ```text
//! New ─► Start ─► Fields ─► Body ─────────────────────────► Between ─► Start ─► ..
//!                      ├──► Size ─► Data ─► DataEnd ─► Size     ▲
//!                      │         └► Trailer ────────────────────┤
//!                      ├────────────────────────────────────────┘
//!                      └──► Over: it asks for another protocol, so it is the last request here
//!
//! wherever it is wrong ─► Refused: nothing more is taken from this peer
//! ```

/// A request that could be cut in two ways, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous(pub &'static str);

/// What became of a request that could be cut in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub why: Ambiguous,
    /// How many of the bytes that came may be passed on: up to the one that was spoilt, and with it.
    pub kept: usize,
}

/// What the library must have, behind a byte that was spoilt, to say at once that it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The end of a head, since it may not look at one before that.
    Head,
    /// An error, since it reads over many a byte in a body.
    Body,
    /// Nothing: it has had that.
    Had,
}

/// How far the bytes of one connection have been followed.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    /// A line that has not ended yet; most come in whole.
    line: Vec<u8>,
    /// The longest line, in bytes.
    longest: usize,
}

#[derive(Debug)]
enum At {
    /// Nothing has come yet.
    New,
    /// A request is over, and nothing of another one has come.
    Between,
    /// In the line that a request begins with, or in empty ones before it.
    Start,
    /// In the fields behind it.
    Fields(Head),
    /// In a body, with so many bytes to come.
    Body(u64),
    /// In the line before a chunk.
    Size,
    /// In a chunk.
    Data(u64),
    /// Between a chunk and the next.
    DataEnd,
    /// In the fields behind the last chunk.
    Trailer,
    /// Nothing more is followed.
    Over,
    /// Nothing more is passed on.
    Refused(Ending),
}

/// What the fields of a request have said so far.
#[derive(Debug, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    host: bool,
    /// Whether it asks for another protocol.
    upgrade: bool,
    /// Whether it is of HTTP/1.0, which knows no chunks and need not name a host.
    old: bool,
}

impl Framing {
    /// Of a connection that begins.
    pub(super) fn new(longest: usize) -> Framing {
        Framing { at: At::New, line: Vec::new(), longest }
    }

    /// Whether the peer still owes a head, or the rest of one: of the first request from the beginning on, of others from their
    /// first byte on.
    pub(super) fn is_within_head(&self) -> bool {
        matches!(self.at, At::New | At::Start | At::Fields(_))
    }

    /// Whether something was refused, and what the library must have next; that is said once.
    pub(super) fn refused(&mut self) -> Option<Ending> {
        match &mut self.at {
            At::Refused(ending) => Some(std::mem::replace(ending, Ending::Had)),
            _ => None,
        }
    }

    /// Follows what has come in.
    ///
    /// # Errors
    /// [`Refused`], once; it has spoilt the byte at which the request went wrong then, and follows nothing more.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<(), Refused> {
        let mut seen = 0;
        while let Some(rest) = bytes.get(seen..).filter(|rest| !rest.is_empty()) {
            match &mut self.at {
                At::Over | At::Refused(_) => return Ok(()),
                At::Body(left) | At::Data(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    seen += taken;
                    self.leave_if_all_came();
                }
                At::New | At::Between => self.at = At::Start,
                At::Start | At::Fields(_) | At::Size | At::DataEnd | At::Trailer => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return self.keep(bytes, seen) };
                    let ending = self.at.ending();
                    let went = if self.line.is_empty() {
                        self.at.after(&rest[..end])
                    } else {
                        self.line.extend_from_slice(&rest[..end]);
                        self.at.after(&std::mem::take(&mut self.line))
                    };
                    seen += end + 1;
                    if let Err(why) = went {
                        return Err(self.refuse(bytes, seen - 1, why, ending));
                    }
                }
            }
        }
        Ok(())
    }

    fn leave_if_all_came(&mut self) {
        match self.at {
            At::Body(0) => self.at = At::Between,
            At::Data(0) => self.at = At::DataEnd,
            _ => {}
        }
    }

    /// Keeps the beginning of a line whose end is still to come.
    fn keep(&mut self, bytes: &mut [u8], from: usize) -> Result<(), Refused> {
        if self.line.len() + bytes.len() - from > self.longest {
            let ending = self.at.ending();
            return Err(self.refuse(bytes, bytes.len() - 1, Ambiguous("a line is too long"), ending));
        }
        self.line.extend_from_slice(&bytes[from..]);
        Ok(())
    }

    /// Puts a byte in that is allowed nowhere in a head, and where a line of a chunked body should end.
    fn refuse(&mut self, bytes: &mut [u8], at: usize, why: Ambiguous, ending: Ending) -> Refused {
        bytes[at] = 0;
        (self.at, self.line) = (At::Refused(ending), Vec::new());
        Refused { why, kept: at + 1 }
    }
}

impl At {
    /// What makes the library see that it goes wrong here.
    fn ending(&self) -> Ending {
        match self {
            At::New | At::Between | At::Start | At::Fields(_) => Ending::Head,
            At::Body(_) | At::Size | At::Data(_) | At::DataEnd | At::Trailer | At::Over | At::Refused(_) => Ending::Body,
        }
    }

    /// Goes on behind a line, which is here without its line feed.
    fn after(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous("a line ends without a carriage return"))?;
        *self = match self {
            // Empty lines before a request are passed over (RFC 9112 section 2.2).
            At::Start if line.is_empty() => At::Start,
            At::Start => At::Fields(Head { old: line.ends_with(b" HTTP/1.0"), ..Head::default() }),
            At::Fields(head) if line.is_empty() => head.end()?,
            At::Fields(head) => return head.field(line),
            At::Size => match size(line).ok_or(Ambiguous("the size of a chunk is not plainly a number"))? {
                0 => At::Trailer,
                size => At::Data(size),
            },
            At::DataEnd if line.is_empty() => At::Size,
            At::DataEnd => return Err(Ambiguous("a chunk is not as long as it says")),
            At::Trailer if line.is_empty() => At::Between,
            At::Trailer | At::New | At::Between | At::Body(_) | At::Data(_) | At::Over | At::Refused(_) => return Ok(()),
        };
        Ok(())
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) -> Result<(), Ambiguous> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Ambiguous("a field has no colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Ambiguous("the name of a field is none, or something stands around it"));
        }
        if name.eq_ignore_ascii_case(b"host") {
            if std::mem::replace(&mut self.host, true) {
                return Err(Ambiguous("it names a host twice"));
            }
            if !value.iter().all(|byte| is_of_host(*byte)) {
                return Err(Ambiguous("its host is none"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = number(value, 10).ok_or(Ambiguous("its length is not plainly a number"))?;
            if self.length.replace(length).is_some() {
                return Err(Ambiguous("it names a length twice"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if std::mem::replace(&mut self.chunked, true) || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Ambiguous("it is coded in another way than in chunks"));
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(())
    }

    fn end(&self) -> Result<At, Ambiguous> {
        match self {
            Head { host: false, old: false, .. } => Err(Ambiguous("it names no host")),
            Head { chunked: true, length: Some(_), .. } => Err(Ambiguous("it has a length and a coding")),
            Head { chunked: true, old: true, .. } => Err(Ambiguous("it is coded in a version that knows no codings")),
            Head { upgrade: true, .. } => Ok(At::Over),
            Head { chunked: true, .. } => Ok(At::Size),
            Head { length: Some(1..), .. } => Ok(At::Body(self.length.unwrap_or(0))),
            Head { .. } => Ok(At::Between),
        }
    }
}

/// A byte of a name (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a host with a port: names, addresses, and those of IPv6 in brackets. Nothing that would end it elsewhere.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%[]:".contains(&byte)
}

/// The size of a chunk: digits, and behind them nothing or an extension, which means nothing to us.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    number(digits, 16)
}

/// Digits and nothing else.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    // The library would take a sign.
    let plain = !text.is_empty() && text.chars().all(|letter| letter.is_digit(radix));
    plain.then(|| u64::from_str_radix(text, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows bytes that come in pieces of this many.
    fn follow(bytes: &[u8], piece: usize) -> (Result<(), Refused>, Framing, Vec<u8>) {
        let mut framing = Framing::new(1024);
        let mut bytes = bytes.to_vec();
        let mut result = Ok(());
        for piece in bytes.chunks_mut(piece) {
            result = result.and(framing.read(piece));
        }
        (result, framing, bytes)
    }

    fn check(text: &str, expected: Result<&str, &str>) {
        for piece in (1..text.len()).chain([text.len()]) {
            let (result, framing, bytes) = follow(text.as_bytes(), piece);
            let found = match &framing.at {
                At::New => "new",
                At::Between => "between",
                At::Start => "start",
                At::Fields(_) => "fields",
                At::Body(_) => "body",
                At::Size => "size",
                At::Data(_) => "data",
                At::DataEnd => "data end",
                At::Trailer => "trailer",
                At::Over => "over",
                At::Refused(_) => "refused",
            };
            let found = result.map(|()| found).map_err(|refused| refused.why.0);
            assert_eq!(found, expected, "{text:?} in pieces of {piece}");
            let spoilt = bytes.iter().zip(text.as_bytes()).filter(|(now, before)| now != before).count();
            assert_eq!(spoilt, usize::from(expected.is_err()), "{text:?}: one byte is spoilt where something is wrong");
        }
    }

    #[test]
    fn requests_end_where_they_end() {
        const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
        check(GET, Ok("between"));
        check(&GET.repeat(3), Ok("between"));
        check("\r\n\r\nGET / HTTP/1.0\r\n\r\n", Ok("between"));
        check("GE", Ok("start"));
        check("\r\n", Ok("start"));
        check("GET / HTTP/1.1\r\nHos", Ok("fields"));
        check(&post("Content-Length: 3\r\n", "abc"), Ok("between"));
        check(&post("content-length:3\t\r\n", "\r\n"), Ok("body"));
        check(&(post("Content-Length: 3\r\n", "\n\n\n") + GET), Ok("between"));
        check(&post("Content-Length: 0\r\n", GET), Ok("between"));
        check(&post("Transfer-Encoding: Chunked\r\n", "3\r\nab"), Ok("data"));
        check(&post("Transfer-Encoding: chunked\r\n", "3\r\nabc"), Ok("data end"));
        check(&post("Transfer-Encoding: chunked\r\n", "03\r\n\n\n\n\r\nA;b=\"c\"\r\n0123456789\r\n"), Ok("size"));
        check(&post("Transfer-Encoding: chunked\r\n", "0\r\nX: y\r\n"), Ok("trailer"));
        check(&(post("Transfer-Encoding: chunked\r\n", "1\r\n\n\r\n000;x\r\nX: y\r\n\r\n") + GET), Ok("between"));
        check("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\n\n\0 is no HTTP", Ok("over"));
        check("GET / HTTP/1.1\r\nHost: [2001:db8::1%25eth0]:80\r\n\r\n", Ok("between"));
        check("GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok("between"));
    }

    #[test]
    fn what_could_end_elsewhere_is_spoilt() {
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let chunks = |body: &str| with("Transfer-Encoding: chunked\r\n") + body;
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", Err("a line ends without a carriage return"));
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", Err("a line ends without a carriage return"));
        check("GET / HTTP/1.1\r\nHost: a\r\n\n", Err("a line ends without a carriage return"));
        check("GET / HTTP/1.1\r\n\r\n", Err("it names no host"));
        check(&with("host: b\r\n"), Err("it names a host twice"));
        for host in ["a b", "a,b", "a@b", "a/b", "a#b", "\u{e9}"] {
            check(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Err("its host is none"));
        }
        check(&with("Content-Length: 2\r\nContent-Length: 2\r\n"), Err("it names a length twice"));
        for length in ["", "+2", "-2", "0x2", "2, 2", "2 2", "18446744073709551616"] {
            check(&with(&format!("Content-Length: {length}\r\n")), Err("its length is not plainly a number"));
        }
        check(&with("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), Err("it has a length and a coding"));
        check(&with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), Err("it has a length and a coding"));
        for coding in ["gzip, chunked", "identity", "chunked, chunked", "xchunked", "\"chunked\"", ""] {
            let expected = Err("it is coded in another way than in chunks");
            check(&with(&format!("Transfer-Encoding: {coding}\r\n")), expected);
        }
        check(
            &with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Err("it is coded in another way than in chunks"),
        );
        check("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Err("it is coded in a version that knows no codings"));
        for line in ["Content-Length : 2", " Content-Length: 2", "\tx: y", ": 2", "Content\u{b}Length: 2"] {
            let expected = Err("the name of a field is none, or something stands around it");
            check(&with(&format!("{line}\r\n")), expected);
        }
        check(&with("Content-Length 2\r\n"), Err("a field has no colon"));
        for size in ["", " 2", "2 ", "+2", "0x2", "2 ;a", "g", ";a", "10000000000000000"] {
            check(&chunks(&format!("{size}\r\n")), Err("the size of a chunk is not plainly a number"));
        }
        check(&chunks("2\nab\r\n"), Err("a line ends without a carriage return"));
        check(&chunks("2;a\nb\r\n"), Err("a line ends without a carriage return"));
        check(&chunks("2\r\nabc\r\n"), Err("a chunk is not as long as it says"));
        check(&chunks("2\r\nab\n"), Err("a line ends without a carriage return"));
        check(&chunks("0\r\nX: y\n"), Err("a line ends without a carriage return"));
    }

    #[test]
    fn behind_what_is_refused_the_library_has_what_makes_it_see_that() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let rows = [
            (format!("{head}X: y\n"), Ending::Head),
            (format!("{head}Content-Length: 2\r\nContent-Length: 2\r\n"), Ending::Head),
            (format!("{chunks}2;\n"), Ending::Body),
            (format!("{chunks}2\r\nabc\r\n"), Ending::Body),
            (format!("{chunks}0\r\nX: y\n"), Ending::Body),
        ];
        for (text, ending) in rows {
            let mut framing = Framing::new(1024);
            let mut bytes = format!("{text}XX\r\n{{}}\r\n0\r\n\r\n").into_bytes();
            let refused = framing.read(&mut bytes).expect_err("it is wrong");
            assert_eq!(refused.kept, text.len(), "{text:?}: up to where it went wrong");
            assert_eq!(framing.read(&mut b"GET / HTTP/1.1\r\n\r\n".to_vec()), Ok(()), "{text:?}: nothing is followed any more");
            let had = [framing.refused(), framing.refused(), framing.refused()];
            assert_eq!(had, [Some(ending), Some(Ending::Had), Some(Ending::Had)], "{text:?}");
        }
    }

    #[test]
    fn a_line_without_an_end_is_not_kept_for_ever() {
        let (result, framing, bytes) = follow(&vec![b'x'; 3000], 100);
        assert_eq!(result, Err(Refused { why: Ambiguous("a line is too long"), kept: 100 }));
        assert_eq!((framing.line.capacity(), bytes.iter().filter(|byte| **byte == 0).count()), (0, 1));
    }

    #[test]
    fn a_head_is_owed_from_its_first_byte_on_and_the_first_from_the_beginning() {
        let owed = |text: &str| follow(text.as_bytes(), 1).1.is_within_head();
        assert!(Framing::new(10).is_within_head());
        assert_eq!(["G", "GET / HTTP/1.1\r\n", "\r\n"].map(owed), [true; 3]);
        let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert!(!owed(get) && owed(&format!("{get}G")));
        assert!(!owed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"));
    }
}
