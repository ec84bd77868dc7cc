//! Which requests a load sends: one shape or several, chosen by weight.

use std::str::FromStr;

use bytes::Bytes;
use http::{Method, Uri};

/// One kind of request in a mix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// How often, beside the weights of the others; 0 is never.
    pub weight: u32,
    /// The method.
    pub method: Method,
    /// Where to; `http` or `https`.
    pub url: Uri,
    /// The body.
    pub body: Bytes,
}

/// Something with a weight, written `WEIGHT=REST`; without `WEIGHT=` it is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weighted<T> {
    /// How often, beside the others; at least 1.
    pub weight: u32,
    /// What.
    pub item: T,
}

impl<T: FromStr> FromStr for Weighted<T>
where
    T::Err: std::fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (weight, rest) = match text[digits..].strip_prefix('=') {
            Some(rest) if digits > 0 => (text[..digits].parse().ok(), rest),
            _ => (Some(1), text),
        };
        let weight =
            weight.filter(|weight| (1..=1_000_000).contains(weight)).ok_or("a weight is 1 to 1000000")?;
        let item = rest.parse().map_err(|error: T::Err| format!("`{rest}`: {error}"))?;
        Ok(Self { weight, item })
    }
}

/// A method, a path and a body, written `POST /orders BODY`; `@FILE` as the body reads that file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The body, as written.
    pub body: String,
}

impl FromStr for Ask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.trim().splitn(3, ' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if !path.starts_with('/') {
            return Err("write it like `GET /path` or `POST /path BODY`".to_owned());
        }
        let method =
            method.to_ascii_uppercase().parse().map_err(|_| format!("`{method}` is not a method"))?;
        let body = words.next().unwrap_or("").to_owned();
        Ok(Self { method, path: path.to_owned(), body })
    }
}

/// Chooses among weights, number by number, the same in every run.
///
/// The numbers walk by the golden ratio: each weight gets its share of any stretch as exactly as whole requests allow,
/// and no other way of taking turns (users, keys) falls into step with it.
#[derive(Debug)]
pub(super) struct Choice {
    /// Running totals.
    upper: Vec<u64>,
}

impl Choice {
    /// `None` when no weight is above 0.
    pub(super) fn new(weights: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut total = 0;
        let upper: Vec<u64> = weights
            .into_iter()
            .map(|weight| {
                total += u64::from(weight);
                total
            })
            .collect();
        (total > 0).then_some(Self { upper })
    }

    /// Which one request `number` gets.
    pub(super) fn of(&self, number: u64) -> usize {
        /// The golden ratio's fraction in 64 bits.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let total = self.upper.last().copied().unwrap_or(0);
        let place = u128::from(number.wrapping_mul(STEP)) * u128::from(total);
        let ticket = (place >> 64) as u64;
        self.upper.partition_point(|upper| *upper <= ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_weight_gets_its_share_of_every_stretch() {
        let choice = Choice::new([3, 0, 1]).unwrap();
        for start in [0, 17, 1_000_003] {
            let mut counts = [0; 3];
            (start..start + 400).for_each(|number| counts[choice.of(number)] += 1);
            assert!((298..=302).contains(&counts[0]) && counts[1] == 0, "{counts:?} from {start}");
        }
        assert!(Choice::new([0, 0]).is_none() && Choice::new([]).is_none());
    }

    #[test]
    fn users_in_turn_do_not_fall_into_step_with_a_mix() {
        let choice = Choice::new([1, 1]).unwrap();
        let of_one_user = (0..1000).filter(|turn| choice.of(turn * 2) == 0).count();
        assert!((480..=520).contains(&of_one_user), "{of_one_user} of 1000");
    }

    #[test]
    fn a_weight_stands_before_an_equals_sign_and_a_query_is_none() {
        let read = |text: &str| text.parse::<Weighted<String>>();
        assert_eq!(read("3=http://a/?b=c"), Ok(Weighted { weight: 3, item: "http://a/?b=c".to_owned() }));
        assert_eq!(read("http://a/?b=c"), Ok(Weighted { weight: 1, item: "http://a/?b=c".to_owned() }));
        assert!(read("0=http://a/").is_err() && read("9999999999=http://a/").is_err());
    }

    #[test]
    fn a_request_is_a_method_a_path_and_the_rest() {
        let ask: Ask = "post /orders?x=1 {\"a\": 1}".parse().unwrap();
        assert_eq!((ask.method, &*ask.path, &*ask.body), (Method::POST, "/orders?x=1", "{\"a\": 1}"));
        assert_eq!("GET /".parse::<Ask>().unwrap().body, "");
        for bad in ["", "GET", "GET orders", "/orders", "B@D /x"] {
            assert!(bad.parse::<Ask>().is_err(), "{bad}");
        }
    }
}
