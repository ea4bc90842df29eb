//! Reads the type under the derive: which exceptions its variants stand for, and what its fields are in them.
//!
//! All faults of a type are reported together, each at its own place.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Fields, Ident, Index, Type};

use crate::faults::Faults;

use super::attribute::{ClassName, FieldOptions, NameOptions};

/// The type, and what it stands for.
pub(crate) struct Subject {
    pub(crate) ident: Ident,
    pub(crate) exceptions: Vec<Exception>,
    /// The variant for everything else, with the type of its field.
    pub(crate) other: Option<(Ident, Type)>,
    /// The variant for remote exceptions that are no other one.
    pub(crate) unknown: Option<(Ident, Type)>,
}

/// A struct or a variant that stands for one exception.
pub(crate) struct Exception {
    /// `Self` or `Self::Variant`.
    pub(crate) path: TokenStream,
    pub(crate) name: ClassName,
    pub(crate) aliases: Vec<ClassName>,
    pub(crate) no_args: bool,
    pub(crate) fields: Vec<Field>,
}

/// One field.
pub(crate) struct Field {
    /// As a pattern or expression names it: an identifier, or an index.
    pub(crate) member: TokenStream,
    pub(crate) ty: Type,
    pub(crate) role: Role,
    /// Missing, it is made by `Default`.
    pub(crate) default: bool,
}

/// What a field is in the exception.
pub(crate) enum Role {
    /// The positional argument of this number.
    Positional(usize),
    /// The keyword argument of this name.
    Keyword(String),
    /// The text.
    Message,
    /// Nothing.
    Skipped,
}

/// The options, or after a fault such that nothing more is found missing.
fn take_names(faults: &mut Faults, result: syn::Result<NameOptions>) -> NameOptions {
    result.unwrap_or_else(|error| {
        faults.push(error);
        NameOptions {
            module: Some(String::new()),
            ..NameOptions::default()
        }
    })
}

impl Subject {
    /// Reads the whole type.
    pub(crate) fn read(input: &DeriveInput) -> syn::Result<Self> {
        let mut faults = Faults::default();
        if !input.generics.params.is_empty() {
            let text = "a remote error has no type parameters: its class is one class";
            faults.add(input.generics.span(), text);
        }
        let options = take_names(&mut faults, NameOptions::read(&input.attrs, false));
        let mut subject = Self {
            ident: input.ident.clone(),
            exceptions: Vec::new(),
            other: None,
            unknown: None,
        };
        match &input.data {
            Data::Struct(data) => {
                let path = quote!(Self);
                let exception = exception(
                    path,
                    &input.ident,
                    &options,
                    &options,
                    &data.fields,
                    &mut faults,
                );
                subject.exceptions.extend(exception);
            }
            Data::Enum(data) => {
                if options.names_class() {
                    let text = "an enum has a class for each variant: put this on a variant";
                    faults.add(input.ident.span(), text);
                }
                for variant in &data.variants {
                    subject.read_variant(variant, &options, &mut faults);
                }
            }
            Data::Union(_) => {
                faults.add(
                    input.ident.span(),
                    "a remote error is an enum or a struct, not a union",
                );
            }
        }
        faults.into_result()?;
        Ok(subject)
    }

    fn read_variant(&mut self, variant: &syn::Variant, of: &NameOptions, faults: &mut Faults) {
        let own = take_names(faults, NameOptions::read(&variant.attrs, true));
        let catch_all = match (own.other, own.unknown) {
            (None, None) => {
                let ident = &variant.ident;
                let path = quote!(Self::#ident);
                let read = exception(path, ident, &own, of, &variant.fields, faults);
                return self.exceptions.extend(read);
            }
            (Some(span), Some(_)) => {
                faults.add(span, "a variant is `other` or `unknown`, not both");
                return;
            }
            (Some(_), None) => &mut self.other,
            (None, Some(_)) => &mut self.unknown,
        };
        if catch_all.is_some() {
            faults.add(
                variant.ident.span(),
                "there is a variant for everything else already",
            );
        }
        match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => {
                *catch_all = Some((variant.ident.clone(), fields.unnamed[0].ty.clone()));
            }
            _ => {
                let text = "a variant for everything else has one field without a name: `oslo_messaging::Error` for \
                            `other`, `oslo_messaging::RemoteError` for `unknown`";
                faults.add(variant.ident.span(), text);
            }
        }
    }
}

fn exception(
    path: TokenStream,
    ident: &Ident,
    own: &NameOptions,
    of: &NameOptions,
    fields: &Fields,
    faults: &mut Faults,
) -> Option<Exception> {
    let fields = read_fields(fields, faults);
    let Some(module) = own.module.as_ref().or(of.module.as_ref()) else {
        let text = format!(
            "which module is the exception `{}` defined in? Say `#[remote(module = \"nova.exception\")]` on the type or here",
            ident.unraw()
        );
        faults.add(ident.span(), text);
        return None;
    };
    let class = own
        .class
        .clone()
        .unwrap_or_else(|| ident.unraw().to_string());
    let aliases = own
        .aliases
        .iter()
        .map(|alias| match alias.rsplit_once('.') {
            Some((module, class)) => ClassName {
                module: module.to_owned(),
                class: class.to_owned(),
            },
            None => ClassName {
                module: module.clone(),
                class: alias.clone(),
            },
        });
    Some(Exception {
        path,
        aliases: aliases.collect(),
        name: ClassName {
            module: module.clone(),
            class,
        },
        no_args: own.no_args,
        fields,
    })
}

fn read_fields(fields: &Fields, faults: &mut Faults) -> Vec<Field> {
    let mut positions = 0;
    let mut read = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let options = faults.take(FieldOptions::read(&field.attrs));
        let member = match &field.ident {
            Some(ident) => ident.to_token_stream(),
            None => Index::from(index).to_token_stream(),
        };
        let role = if options.skip {
            Role::Skipped
        } else if options.message {
            Role::Message
        } else {
            match (&field.ident, options.positional) {
                (Some(ident), None) => {
                    Role::Keyword(options.name.unwrap_or_else(|| ident.unraw().to_string()))
                }
                (None, Some(span)) => {
                    faults.add(
                        span,
                        "a field without a name is a positional argument as it is",
                    );
                    continue;
                }
                (None, None) if options.name.is_some() => {
                    let text =
                        "a positional argument has no name; name the field to send it by keyword";
                    faults.add(field.span(), text);
                    continue;
                }
                _ => {
                    positions += 1;
                    Role::Positional(positions - 1)
                }
            }
        };
        read.push(Field {
            member,
            ty: field.ty.clone(),
            role,
            default: options.default,
        });
    }
    read
}
