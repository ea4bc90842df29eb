//! What is printed where, by a page in memory, a closed pipe and a full disk.

use std::sync::Arc;

use super::*;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).expect("only text is printed")
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader has gone, or a full disk.
struct Gone(io::ErrorKind);

impl Write for Gone {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Greeting {
    event: &'static str,
    to: &'static str,
}

impl Record for Greeting {
    fn describe(&self, text: &mut Text) {
        text.plain("hello ").good(self.to);
    }
}

const GREETING: Greeting = Greeting {
    event: "greeting",
    to: "wörld",
};
const PLAIN: Manner = Manner {
    format: Format::Text,
    color: false,
    color_errors: false,
    spread: false,
    quiet: false,
};

fn output(manner: Manner) -> (Output, Page, Page) {
    let (out, errors) = (Page::default(), Page::default());
    (
        Output::with(manner, Box::new(out.clone()), Box::new(errors.clone())),
        out,
        errors,
    )
}

#[test]
fn a_record_is_one_line_of_text_or_one_object() {
    let (output, out, _) = output(PLAIN);
    output.record(&GREETING);
    assert_eq!(out.text(), "hello wörld\n");
    let (output, out, _) = self::output(Manner {
        format: Format::Json,
        ..PLAIN
    });
    output.record(&GREETING);
    output.remark("for people");
    assert_eq!(
        out.text(),
        "{\"event\": \"greeting\", \"to\": \"w\\u00f6rld\"}\n"
    );
}

#[test]
fn colours_are_there_only_when_asked_for() {
    let (output, out, _) = output(Manner {
        color: true,
        ..PLAIN
    });
    output.record(&GREETING);
    assert_eq!(out.text(), "hello \x1b[32mwörld\x1b[0m\n");
}

#[tokio::test]
async fn a_reader_that_went_away_is_told_but_no_fault() {
    let gone = Box::new(Gone(io::ErrorKind::BrokenPipe));
    let output = Output::with(PLAIN, gone, Box::new(Page::default()));
    output.record(&GREETING);
    output.closed().await;
    output.record(&GREETING);
    assert!(output.fault().is_none());
}

#[test]
fn output_that_cannot_be_written_is_a_fault() {
    let full = Box::new(Gone(io::ErrorKind::StorageFull));
    let output = Output::with(PLAIN, full, Box::new(Page::default()));
    output.record(&GREETING);
    assert!(output.fault().is_some());
}

#[test]
fn a_problem_goes_to_standard_error_with_its_hint() {
    let (output, out, errors) = output(PLAIN);
    output.problem(&Problem::usage("no topic").hint("give one"));
    assert_eq!(out.text(), "");
    assert_eq!(errors.text(), "error: no topic\nhint: give one\n");
}

#[test]
fn a_table_fits_into_80_columns() {
    struct Wide;
    impl Serialize for Wide {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_unit()
        }
    }
    impl Row for Wide {
        const TITLES: &'static [&'static str] =
            &["callers", "calls/s", "p50", "p90", "p99", "p99.9", "max"];
        fn cells(&self) -> Vec<String> {
            vec![
                "1,000".into(),
                "1,000,000".into(),
                "999.9 µs".into(),
                "999.9 µs".into(),
                "99.99 ms".into(),
                "99.99 ms".into(),
                "99.99 ms".into(),
            ]
        }
    }
    let (output, out, _) = output(PLAIN);
    output.rows(&[Wide, Wide]);
    assert!(out.text().contains("calls/s"));
    assert!(
        out.text().lines().all(|line| line.chars().count() <= 80),
        "{}",
        out.text()
    );
}
