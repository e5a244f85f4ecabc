//! The page for people: what the answer says, as indented JSON, and the same as a variable for scripts.
//!
//! Everything that comes from outside is escaped twice over: as JSON, and then for the place in the page where it stands.

use crate::servicestack::dto::Dto;
use crate::servicestack::json;
use crate::servicestack::style::Style;

/// The page about an answer. `title` is the name of what was asked for.
pub(super) fn page(title: &str, dto: &Dto<'_>, style: &Style) -> String {
    let shown = json::write(dto, &Style { indented: true, ..*style });
    let variable = json::write(dto, &Style { indented: false, ..*style });
    let mut out = String::with_capacity(512 + 2 * shown.len() + 2 * variable.len());
    out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
    push_escaped(&mut out, title);
    out.push_str("</title>\n</head>\n<body>\n<h1>");
    push_escaped(&mut out, title);
    out.push_str("</h1>\n<pre>");
    push_escaped(&mut out, &shown);
    out.push_str("</pre>\n<script>window.Dto = ");
    push_script(&mut out, &variable);
    out.push_str(";</script>\n</body>\n</html>\n");
    out
}

/// Writes a text where a page has text or the value of an attribute.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
}

/// Writes JSON where a page has a script. What could end the script or begin another, and the line ends that JSON allows and
/// old scripts do not, are escaped; outside strings JSON has none of them.
fn push_script(out: &mut String, json: &str) {
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\'' | '=' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::servicestack::dto::Data;
    use crate::servicestack::style::{DateFormat, TextCase};
    use crate::servicestack::value::Fields;

    #[test]
    fn nothing_in_an_answer_becomes_part_of_the_page() {
        let style = Style::new(TextCase::Pascal, DateFormat::Wcf, &Fields::default());
        let nasty = "</script><script>alert('1')</script>&\u{2028}\"=";
        let dto = Dto { name: "AuthenticateResponse", members: vec![("UserName", Data::Text(nasty.into()))] };
        let page = page("<b>'Authenticate'", &dto, &style);
        assert!(page.contains("<title>&lt;b&gt;&#39;Authenticate&#39;</title>"), "{page}");
        assert!(
            page.contains(
                "<pre>{\n    &quot;UserName&quot;: &quot;&lt;/script&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;\
                 \u{2028}\\&quot;=&quot;\n}</pre>"
            ),
            "{page}"
        );
        let script = page.split_once("window.Dto = ").and_then(|(_, rest)| rest.split_once(";</script>")).unwrap().0;
        assert!(!script.contains(['<', '>', '&', '\'', '=', '\u{2028}']), "{script}");
        let read: serde_json::Value = serde_json::from_str(script).unwrap();
        assert_eq!(read["UserName"], nasty);
        assert_eq!(page.matches("<script").count(), 1);
    }
}
