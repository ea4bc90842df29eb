//! What stands in the brackets of `#[endpoint(…)]`.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Expr, ExprLit, Ident, Lit, LitStr, Token, parenthesized};

/// Namespace and version, as written.
#[derive(Default)]
pub(crate) struct Header {
    pub(crate) namespace: Option<Expr>,
    pub(crate) version: Option<Expr>,
    /// `None` is the null namespace.
    pub(crate) legacy_namespaces: Vec<Option<LitStr>>,
}

impl Parse for Header {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut header = Self::default();
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            if seen.contains(&key) {
                return Err(syn::Error::new(
                    key.span(),
                    format!("`{key}` is given twice"),
                ));
            }
            match key.to_string().as_str() {
                "namespace" => header.namespace = Some(value(input)?),
                "version" => header.version = Some(version(input)?),
                "legacy_namespaces" => header.legacy_namespaces = legacy(input)?,
                _ => {
                    let text = format!(
                        "#[endpoint] does not know `{key}`; it takes `namespace = \"…\"`, `version = \"1.0\"` and \
                         `legacy_namespaces(\"…\")`"
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

fn value(input: ParseStream<'_>) -> syn::Result<Expr> {
    input.parse::<Token![=]>()?;
    input.parse()
}

fn version(input: ParseStream<'_>) -> syn::Result<Expr> {
    let version = value(input)?;
    if let Expr::Lit(ExprLit { lit, .. }) = &version {
        let is_version = matches!(lit, Lit::Str(text) if is_version(&text.value()));
        if !is_version {
            let text = "a version reads \"major.minor\" or \"major.minor.revision\" in decimal digits, such as \"1.3\"";
            return Err(syn::Error::new(lit.span(), text));
        }
    }
    Ok(version)
}

/// Two or three decimal numbers that fit 32 bits.
fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let is_number =
        |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u32>().is_ok();
    (2..=3).contains(&parts.len()) && parts.iter().all(is_number)
}

fn legacy(input: ParseStream<'_>) -> syn::Result<Vec<Option<LitStr>>> {
    let list;
    parenthesized!(list in input);
    let items = Punctuated::<Option<LitStr>, Token![,]>::parse_terminated_with(&list, |item| {
        if item.peek(LitStr) {
            return item.parse().map(Some);
        }
        let word: Ident = item.parse()?;
        if word == "null" {
            return Ok(None);
        }
        Err(syn::Error::new(
            word.span(),
            "a legacy namespace is a string, or `null` for the null namespace",
        ))
    })?;
    Ok(items.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn a_version_has_two_or_three_numbers() {
        assert!(is_version("1.0") && is_version("1.20.3") && is_version("0.0"));
        for bad in [
            "",
            "1",
            "1.",
            ".1",
            "1.x",
            "1.2.3.4",
            "-1.0",
            "+1.0",
            "1. 0",
            "99999999999.0",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
