//! Reads what stands in the brackets of `#[client(…)]`, and the methods of the trait.
//!
//! All faults of a trait are reported together, each at its own place.

use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, FnArg, GenericParam, Generics, Ident, ItemTrait, LitStr, Pat, PatType,
    ReturnType, Signature, Token, TraitItem, TraitItemFn, Type, Visibility,
};

use crate::faults::Faults;
use crate::types::{is_context, last_name};

/// Namespace and version, as written.
#[derive(Default)]
pub(crate) struct Header {
    pub(crate) namespace: Option<Expr>,
    pub(crate) version: Option<Expr>,
}

impl Parse for Header {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut header = Self::default();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            let place = match key.to_string().as_str() {
                "namespace" => &mut header.namespace,
                "version" => &mut header.version,
                _ => {
                    let text = format!(
                        "#[client] does not know `{key}`; it takes `namespace = \"…\"` and `version = \"1.0\"`"
                    );
                    return Err(syn::Error::new(key.span(), text));
                }
            };
            if place.is_some() {
                let text = format!("`{key}` is given twice");
                return Err(syn::Error::new(key.span(), text));
            }
            input.parse::<Token![=]>()?;
            *place = Some(input.parse()?);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(header)
    }
}

/// A trait, as far as it describes a remote interface.
pub(crate) struct Api {
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) visibility: Visibility,
    pub(crate) name: Ident,
    pub(crate) methods: Vec<Method>,
}

/// How a method is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Call,
    Cast,
    Fanout,
}

/// A remote method.
pub(crate) struct Method {
    /// What is not the macro's own.
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) ident: Ident,
    /// The name servers know it by.
    pub(crate) name: String,
    pub(crate) verb: Verb,
    pub(crate) timeout: Option<Expr>,
    pub(crate) version: Option<Expr>,
    pub(crate) idempotent: bool,
    pub(crate) generics: Generics,
    /// The parameter that is the context, if the trait names it.
    pub(crate) context: Option<PatType>,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) answer: Answer,
}

/// A parameter that is sent.
pub(crate) struct Argument {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// Left out when it is `None`.
    pub(crate) optional: bool,
}

/// What a method gives.
pub(crate) enum Answer {
    Nothing,
    Value(Type),
    Result(Type),
}

impl Api {
    /// Reads a trait.
    pub(crate) fn read(description: ItemTrait) -> syn::Result<Self> {
        let mut faults = Faults::default();
        if !description.generics.params.is_empty() {
            let text = "a remote interface has no type parameters";
            faults.add(description.generics.span(), text);
        }
        if !description.supertraits.is_empty() {
            let text = "a remote interface stands alone; write all its methods here";
            faults.add(description.supertraits.span(), text);
        }
        let mut methods = Vec::new();
        for item in description.items {
            match item {
                TraitItem::Fn(function) => {
                    methods.extend(read_method(function, &mut faults));
                }
                other => faults.add(other.span(), "a remote interface has methods only"),
            }
        }
        faults.into_result()?;
        Ok(Self {
            attributes: description.attrs,
            visibility: description.vis,
            name: description.ident,
            methods,
        })
    }
}

fn read_method(mut function: TraitItemFn, faults: &mut Faults) -> Option<Method> {
    let options = match Options::take(&mut function.attrs) {
        Ok(options) => options,
        Err(error) => {
            faults.push(error);
            return None;
        }
    };
    if let Some(body) = &function.default {
        let text = "the method runs at the server; end this with a semicolon";
        faults.add(body.span(), text);
    }
    let signature = function.sig;
    check(&signature, faults);
    let answer = read_answer(&signature.output);
    if options.verb != Verb::Call
        && let Answer::Value(ty) = &answer
    {
        let text = "a cast has no result, since nobody waits for one";
        faults.add(ty.span(), text);
    }
    let mut context = None;
    let mut arguments = Vec::new();
    for (position, input) in signature.inputs.into_iter().enumerate() {
        let FnArg::Typed(parameter) = input else {
            continue;
        };
        if is_context(&parameter.ty) {
            if position > 1 {
                let text = "the context is the first parameter after `&self`";
                faults.add(parameter.span(), text);
            }
            context = Some(parameter);
        } else {
            arguments.extend(read_argument(parameter, faults));
        }
    }
    if context.is_none()
        && let Some(taken) = arguments.iter().find(|argument| argument.ident == "ctx")
    {
        let text = "`ctx` is the context that each method has; name it `ctx: &Context`, or give the argument another name";
        faults.add(taken.ident.span(), text);
    }
    Some(Method {
        attributes: function.attrs,
        name: options
            .name
            .unwrap_or_else(|| signature.ident.unraw().to_string()),
        ident: signature.ident,
        verb: options.verb,
        timeout: options.timeout,
        version: options.version,
        idempotent: options.idempotent,
        generics: signature.generics,
        context,
        arguments,
        answer,
    })
}

fn check(signature: &Signature, faults: &mut Faults) {
    if signature.asyncness.is_none() {
        let text = "a remote method is `async`";
        faults.add(signature.fn_token.span(), text);
    }
    let by_reference = signature
        .receiver()
        .is_some_and(|receiver| receiver.reference.is_some() && receiver.mutability.is_none());
    if !by_reference {
        faults.add(signature.ident.span(), "a remote method takes `&self`");
    }
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            let text = "a method that is called by name cannot have type parameters";
            faults.add(parameter.span(), text);
        }
    }
}

fn read_argument(mut parameter: PatType, faults: &mut Faults) -> Option<Argument> {
    let mut optional = false;
    parameter.attrs.retain(|attribute| {
        let is_ours = attribute.path().is_ident("optional");
        optional |= is_ours;
        !is_ours
    });
    if optional && last_name(&parameter.ty).is_none_or(|name| name != "Option") {
        let text = "only an `Option` can be left out";
        faults.add(parameter.ty.span(), text);
    }
    match *parameter.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            Some(Argument {
                ident: pattern.ident,
                ty: *parameter.ty,
                optional,
            })
        }
        other => {
            let text = "arguments are sent by name, so this must be a plain name, not a pattern";
            faults.add(other.span(), text);
            None
        }
    }
}

fn read_answer(output: &ReturnType) -> Answer {
    match output {
        ReturnType::Default => Answer::Nothing,
        ReturnType::Type(_, ty) if last_name(ty).is_some_and(|name| name == "Result") => {
            Answer::Result((**ty).clone())
        }
        ReturnType::Type(_, ty) => Answer::Value((**ty).clone()),
    }
}

/// The macro's attributes on a method.
struct Options {
    verb: Verb,
    timeout: Option<Expr>,
    name: Option<String>,
    version: Option<Expr>,
    idempotent: bool,
}

impl Options {
    fn take(attributes: &mut Vec<Attribute>) -> syn::Result<Self> {
        let mut options = Self {
            verb: Verb::Call,
            timeout: None,
            name: None,
            version: None,
            idempotent: false,
        };
        let mut others = Vec::new();
        for attribute in std::mem::take(attributes) {
            let path = attribute.path();
            if path.is_ident("cast") || path.is_ident("fanout") {
                attribute.meta.require_path_only()?;
                if options.verb != Verb::Call {
                    let text =
                        "one of `#[cast]` and `#[fanout]`; a fanout is a cast to all servers";
                    return Err(syn::Error::new(attribute.span(), text));
                }
                options.verb = if path.is_ident("cast") {
                    Verb::Cast
                } else {
                    Verb::Fanout
                };
            } else if path.is_ident("timeout") {
                options.timeout = Some(attribute.parse_args()?);
            } else if path.is_ident("rpc") {
                options.read_rpc(&attribute)?;
            } else {
                others.push(attribute);
            }
        }
        *attributes = others;
        Ok(options)
    }

    fn read_rpc(&mut self, attribute: &Attribute) -> syn::Result<()> {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("idempotent") {
                self.idempotent = true;
            } else if meta.path.is_ident("version") {
                self.version = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("name") {
                let name: LitStr = meta.value()?.parse()?;
                if name.value().is_empty() {
                    let text = "a method's name cannot be empty";
                    return Err(syn::Error::new(name.span(), text));
                }
                self.name = Some(name.value());
            } else {
                return Err(
                    meta.error("#[rpc] takes `name = \"…\"`, `version = \"1.1\"` or `idempotent`")
                );
            }
            Ok(())
        })
    }
}
