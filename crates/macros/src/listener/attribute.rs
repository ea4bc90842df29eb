//! What stands in the brackets of `#[listener(…)]`: the rules of a filter.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, Ident, LitStr, Token, parenthesized};

/// The filter, as written.
#[derive(Default)]
pub(crate) struct Header {
    /// The filter's method, the key if it takes one, and the expression.
    pub(crate) rules: Vec<(Ident, Option<String>, Expr)>,
}

impl Parse for Header {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut header = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            if seen.contains(&key) {
                let text = format!("`{key}` is given twice");
                return Err(syn::Error::new(key.span(), text));
            }
            match key.to_string().as_str() {
                "event_type" | "publisher_id" => {
                    input.parse::<Token![=]>()?;
                    header.rules.push((key.clone(), None, input.parse()?));
                }
                "context" | "metadata" | "payload" => {
                    let list;
                    parenthesized!(list in input);
                    let pairs = Punctuated::<Pair, Token![,]>::parse_terminated(&list)?;
                    let rules = pairs.into_iter();
                    let rules = rules.map(|pair| (key.clone(), Some(pair.key), pair.value));
                    header.rules.extend(rules);
                }
                _ => {
                    let text = format!(
                        "#[listener] does not know `{key}`; it takes `event_type = \"…\"`, `publisher_id = \"…\"`, \
                         `context(key = \"…\")`, `metadata(key = \"…\")` and `payload(key = \"…\")`"
                    );
                    return Err(syn::Error::new(key.span(), text));
                }
            }
            seen.push(key);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(header)
    }
}

/// A key, as a word or in quotes, and its expression.
struct Pair {
    key: String,
    value: Expr,
}

impl Parse for Pair {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let key = if input.peek(LitStr) {
            input.parse::<LitStr>()?.value()
        } else {
            input.parse::<Ident>()?.to_string()
        };
        input.parse::<Token![=]>()?;
        let value = input.parse()?;
        Ok(Self { key, value })
    }
}
