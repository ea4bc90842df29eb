//! What stands in the brackets of `#[remote(…)]`, on a type, a variant and a field.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, LitStr};

/// A class of Python, as a module and a name.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClassName {
    pub(crate) module: String,
    pub(crate) class: String,
}

/// On a type or a variant.
#[derive(Default)]
pub(crate) struct NameOptions {
    pub(crate) module: Option<String>,
    pub(crate) class: Option<String>,
    /// Other names the exception is known by: `Class` or `module.Class`.
    pub(crate) aliases: Vec<String>,
    /// The message is no argument of a variant without fields.
    pub(crate) no_args: bool,
    /// Everything that is no other variant.
    pub(crate) other: Option<Span>,
    /// Remote exceptions that are no other variant.
    pub(crate) unknown: Option<Span>,
}

/// On a field.
#[derive(Default)]
pub(crate) struct FieldOptions {
    pub(crate) name: Option<String>,
    pub(crate) positional: Option<Span>,
    pub(crate) message: bool,
    pub(crate) default: bool,
    pub(crate) skip: bool,
}

impl NameOptions {
    /// Reads the attributes of a type (`on_variant` false) or a variant.
    pub(crate) fn read(attributes: &[Attribute], on_variant: bool) -> syn::Result<Self> {
        let mut options = Self::default();
        each(attributes, |meta| {
            if meta.path.is_ident("module") {
                once(&meta, options.module.is_some())?;
                options.module = Some(dotted(&meta)?);
            } else if meta.path.is_ident("class") {
                once(&meta, options.class.is_some())?;
                options.class = Some(class(&meta)?);
            } else if meta.path.is_ident("alias") {
                options.aliases.push(dotted(&meta)?);
            } else if meta.path.is_ident("no_args") {
                options.no_args = true;
            } else if on_variant && meta.path.is_ident("other") {
                options.other = Some(meta.path.span());
            } else if on_variant && meta.path.is_ident("unknown") {
                options.unknown = Some(meta.path.span());
            } else if on_variant {
                return Err(meta.error(
                    "a variant takes `class = \"…\"`, `module = \"…\"`, `alias = \"…\"`, `no_args`, `other` and `unknown`",
                ));
            } else {
                return Err(meta.error(
                    "a type takes `module = \"…\"`, and a struct also `class = \"…\"`, `alias = \"…\"` and `no_args`",
                ));
            }
            Ok(())
        })?;
        Ok(options)
    }

    /// Whether anything was said about the exception itself.
    pub(crate) fn names_class(&self) -> bool {
        self.class.is_some() || !self.aliases.is_empty() || self.no_args
    }
}

impl FieldOptions {
    pub(crate) fn read(attributes: &[Attribute]) -> syn::Result<Self> {
        let mut options = Self::default();
        each(attributes, |meta| {
            if meta.path.is_ident("name") {
                once(&meta, options.name.is_some())?;
                options.name = Some(meta.value()?.parse::<LitStr>()?.value());
            } else if meta.path.is_ident("arg") {
                options.positional = Some(meta.path.span());
            } else if meta.path.is_ident("message") {
                options.message = true;
            } else if meta.path.is_ident("default") {
                options.default = true;
            } else if meta.path.is_ident("skip") {
                options.skip = true;
            } else {
                return Err(meta.error(
                    "a field takes `name = \"…\"`, `arg`, `message`, `default` and `skip`",
                ));
            }
            Ok(())
        })?;
        Ok(options)
    }
}

fn each(
    attributes: &[Attribute],
    mut read: impl FnMut(ParseNestedMeta<'_>) -> syn::Result<()>,
) -> syn::Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("remote"))
        .try_for_each(|attribute| attribute.parse_nested_meta(&mut read))
}

fn once(meta: &ParseNestedMeta<'_>, again: bool) -> syn::Result<()> {
    if again {
        return Err(meta.error("this is given twice"));
    }
    Ok(())
}

/// Names with dots between them.
fn dotted(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let text: LitStr = meta.value()?.parse()?;
    if text.value().split('.').all(is_name) {
        return Ok(text.value());
    }
    Err(syn::Error::new(
        text.span(),
        "a module reads like \"nova.exception\", a class like \"InstanceNotFound\"",
    ))
}

fn class(meta: &ParseNestedMeta<'_>) -> syn::Result<String> {
    let text: LitStr = meta.value()?.parse()?;
    if is_name(&text.value()) {
        return Ok(text.value());
    }
    Err(syn::Error::new(
        text.span(),
        "a class is one name, such as \"InstanceNotFound\"; its module is given by `module = \"…\"`",
    ))
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters
        .next()
        .is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn a_name_is_one_of_python() {
        assert!(is_name("NotFound") && is_name("_private2") && is_name("č"));
        assert!(!is_name("") && !is_name("2a") && !is_name("a.b") && !is_name("a b"));
    }
}
