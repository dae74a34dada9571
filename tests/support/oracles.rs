//! What must hold for every input, whoever makes it up: `tests/oracles.rs` or the fuzzer.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "replayed.rs"]
pub(crate) mod replayed;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use stanchion::http::headers::{self, Pushback};

use replayed::{End, Plan, Step};

/// The lines of `input` that a header can hold, under this name.
fn lines(name: &'static str, input: &[u8]) -> (HeaderMap, Vec<Vec<u8>>) {
    let mut headers = HeaderMap::new();
    let mut values = vec![];
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(name, value);
            values.push(line.to_vec());
        }
    }
    (headers, values)
}

/// The value of digits, `None` if there is none or something else, or if it is more than `most`.
fn number(digits: &[u8], most: u64) -> Option<u64> {
    let value = digits.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })?;
    (!digits.is_empty() && value <= most).then_some(value)
}

/// `Wed, 21 Oct 2015 07:27:30 GMT`.
const NOW: u64 = 1_445_412_450;

pub(crate) fn retry_after(input: &[u8]) {
    let (headers, values) = lines("retry-after", input);
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let expected = values.first().and_then(|value| {
        let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii())?.trim_matches([' ', '\t']);
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(number(text.as_bytes(), u64::MAX).unwrap_or(u64::MAX));
        }
        Some(date(text)?.saturating_sub(NOW))
    });
    assert_eq!(headers::retry_after(&headers, now), expected.map(Duration::from_secs));
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The seconds of a date since 1970: guesses which one is meant, writes that one down, and compares.
fn date(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', ',', '-', ':']).filter(|word| !word.is_empty()).collect();
    let [day, month, year, hour, minute, second] = match words[..] {
        [_, month, day, hour, minute, second, year] => [day, month, year, hour, minute, second],
        [_, day, month, year, hour, minute, second, "GMT"] => [day, month, year, hour, minute, second],
        _ => return None,
    };
    let part = |word: &str| number(word.as_bytes(), 9_999);
    let year = match (part(year)?, year.len()) {
        (year @ 0..70, 2) => 2000 + year,
        (year, 2) => 1900 + year,
        (year, _) => year,
    };
    let moment = Moment {
        year,
        month: MONTHS.iter().position(|name| *name == month)?,
        day: part(day)?,
        time: [part(hour)?, part(minute)?, part(second)?],
    };
    let seconds = moment.seconds()?;
    moment.written().iter().any(|written| written == text).then_some(seconds)
}

struct Moment {
    year: u64,
    /// From zero.
    month: usize,
    day: u64,
    time: [u64; 3],
}

impl Moment {
    fn days_since_1970(&self) -> Option<u64> {
        let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let february = if is_leap(self.year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let is_date = self.year >= 1970 && (1..=months[self.month]).contains(&self.day);
        let years: u64 = (1970..self.year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
        is_date.then(|| years + months[..self.month].iter().sum::<u64>() + self.day - 1)
    }

    fn seconds(&self) -> Option<u64> {
        let [hour, minute, second] = self.time;
        let is_time = hour < 24 && minute < 60 && second < 60;
        Some(self.days_since_1970().filter(|_| is_time)? * 86_400 + hour * 3_600 + minute * 60 + second)
    }

    /// In the formats of RFC 9110. A one-digit day may be filled up either way in the last.
    fn written(&self) -> [String; 4] {
        let Self { year, month, day, time: [hour, minute, second] } = self;
        let weekday = DAYS[usize::try_from(self.days_since_1970().unwrap() % 7).unwrap()];
        let (short, month) = (&weekday[..3], MONTHS[*month]);
        let time = format!("{hour:02}:{minute:02}:{second:02}");
        [
            format!("{short}, {day:02} {month} {year:04} {time} GMT"),
            format!("{weekday}, {day:02}-{month}-{:02} {time} GMT", year % 100),
            format!("{short} {month} {day:2} {time} {year:04}"),
            format!("{short} {month} {day:02} {time} {year:04}"),
        ]
    }
}

/// This time since 1970 as a `Retry-After`, in the format of this number.
pub(crate) fn written_date(seconds: u64, format: usize) -> String {
    let date = httpdate::HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    let word = |range| date.get::<std::ops::Range<usize>>(range).unwrap();
    let moment = Moment {
        year: word(12..16).parse().unwrap(),
        month: MONTHS.iter().position(|name| *name == word(8..11)).unwrap(),
        day: word(5..7).parse().unwrap(),
        time: [word(17..19), word(20..22), word(23..25)].map(|part| part.parse().unwrap()),
    };
    assert_eq!((moment.seconds().unwrap(), &moment.written()[0]), (seconds, &date));
    moment.written()[format % 4].clone()
}

pub(crate) fn pushback(input: &[u8]) {
    let (headers, values) = lines("grpc-retry-pushback-ms", input);
    let expected = match &values[..] {
        [] => None,
        [value] => Some(
            number(value, 0x7fff_ffff)
                .map_or(Pushback::Stop, |millis| Pushback::After(Duration::from_millis(millis))),
        ),
        _ => Some(Pushback::Stop),
    };
    assert_eq!(headers::grpc_retry_pushback(&headers), expected);
}

/// The input is a header, and the time in its first bytes is written and read.
pub(crate) fn grpc_timeout(input: &[u8]) {
    let (headers, values) = lines("grpc-timeout", input);
    let expected = values.first().and_then(|value| {
        let (digits, unit) = value.split_at(value.len().checked_sub(1)?);
        let nanos = match unit {
            b"H" => 3_600_000_000_000_u64,
            b"M" => 60_000_000_000,
            b"S" => 1_000_000_000,
            b"m" => 1_000_000,
            b"u" => 1_000,
            b"n" => 1,
            _ => return None,
        };
        Some((number(digits, u64::MAX).filter(|_| digits.len() <= 8)?, nanos))
    });
    let nanos = |duration: Duration| duration.as_nanos();
    let read = headers::grpc_timeout(&headers);
    assert_eq!(read.map(nanos), expected.map(|(count, unit)| u128::from(count) * u128::from(unit)));

    let mut bytes = input.iter().copied().chain(std::iter::repeat(0));
    let seconds = u64::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap()));
    let shift = u32::from(bytes.next().unwrap() % 64);
    let subsec = u32::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap())) % 1_000_000_000;
    for timeout in read.into_iter().chain([Duration::new(seconds >> shift, subsec)]) {
        let written = written_and_read(timeout);
        let most = Duration::from_secs(99_999_999 * 3_600);
        assert!(written <= timeout && (written > Duration::ZERO || timeout == Duration::ZERO));
        let lost = timeout.min(most) - written;
        assert!(lost <= timeout / 100_000, "{timeout:?} became {written:?}");
        assert_eq!(written_and_read(written), written, "writing it again changed it");
    }
}

fn written_and_read(timeout: Duration) -> Duration {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-timeout", headers::write_grpc_timeout(timeout));
    headers::grpc_timeout(&headers).unwrap()
}

/// The input is read as a body, cut up, and what is done with it.
pub(crate) fn replay_body(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut next = || bytes.next().map(usize::from);
    let (Some(shape), Some(cap), Some(frames)) = (next(), next(), next()) else { return };
    // Around the lengths that matter: nothing, a copied piece, a shared one.
    let length = |byte: usize| if byte < 128 { byte } else { (byte - 128) * 16 };
    let plan = Plan {
        cap: if shape & 4 == 0 { length(cap) } else { cap * 64 },
        is_sized: shape & 8 != 0,
        end: [End::AnyRequest, End::Trailers, End::Error, End::AnyRequest][shape & 3],
        frames: (0..frames % 16)
            .map_while(|_| next())
            .map(|byte| (byte != 255).then(|| length(byte)))
            .collect(),
    };
    let mut steps = vec![];
    while let Some(step) = next().filter(|_| steps.len() < 64) {
        let attempt = (step >> 2) & 3;
        steps.push(match step & 3 {
            0 | 1 => Step::Poll { attempt, times: (step >> 4) + 1 },
            2 => Step::DropAttempt(attempt),
            _ if step == 255 => Step::DropHandle,
            _ => Step::Again,
        });
    }
    replayed::follow(&plan, &steps);
}
