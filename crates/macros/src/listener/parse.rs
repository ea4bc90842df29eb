//! Reads the handlers of an `impl` block, and takes the macro's own attributes out of it.

use proc_macro2::Span;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Attribute, FnArg, Generics, Ident, ImplItem, ImplItemFn, ItemImpl, Token, Type};

use crate::types::last_name;

/// Names of priorities, and of the variants they stand for; `warning` is `warn`.
const PRIORITIES: [(&str, &str); 8] = [
    ("audit", "Audit"),
    ("critical", "Critical"),
    ("debug", "Debug"),
    ("error", "Error"),
    ("info", "Info"),
    ("sample", "Sample"),
    ("warn", "Warn"),
    ("warning", "Warn"),
];

/// The handlers of a block, and whose they are.
pub(crate) struct Block {
    pub(crate) generics: Generics,
    pub(crate) of: Type,
    pub(crate) handlers: Vec<Handler>,
    /// They take the notifications of a batch together.
    pub(crate) is_batch: bool,
}

/// A method that is called for notifications.
pub(crate) struct Handler {
    pub(crate) ident: Ident,
    /// Variants of the priority.
    pub(crate) priorities: Vec<&'static str>,
    pub(crate) is_async: bool,
    pub(crate) parameters: Vec<Parameter>,
    /// `#[cfg(…)]`, which the printed code repeats.
    pub(crate) conditions: Vec<Attribute>,
}

/// What a handler is given.
pub(crate) enum Parameter {
    Context,
    Priority,
    Note,
    Notes,
    /// The payload, read as this type, and whether it is lent.
    Payload(Box<Type>, bool),
}

impl Block {
    /// Reads the block and takes the macro's attributes out of it.
    pub(crate) fn take(block: &mut ItemImpl) -> syn::Result<Self> {
        if let Some((_, path, _)) = &block.trait_ {
            let text = "#[listener] calls the methods of a type, not of a trait: put it on `impl Type { … }`";
            return Err(syn::Error::new(path.span(), text));
        }
        let mut handlers: Vec<Handler> = Vec::new();
        let mut taken: Vec<(&str, bool)> = Vec::new();
        for item in &mut block.items {
            let ImplItem::Fn(function) = item else {
                continue;
            };
            let Some(handler) = read(function)? else {
                continue;
            };
            for priority in &handler.priorities {
                let bare = handler.conditions.is_empty();
                if taken.contains(&(*priority, true)) && bare {
                    let text = format!(
                        "two methods handle the priority {}",
                        priority.to_lowercase()
                    );
                    return Err(syn::Error::new(handler.ident.span(), text));
                }
                taken.push((*priority, bare));
            }
            handlers.push(handler);
        }
        if handlers.is_empty() {
            let text = "no method handles notifications: name one audit, critical, debug, error, info, sample or warn, or \
                        mark one with `#[on(info, …)]`";
            return Err(syn::Error::new(block.self_ty.span(), text));
        }
        let batches = handlers.iter().filter(|handler| handler.is_batch()).count();
        if batches > 0 && batches < handlers.len() {
            let odd = handlers.iter().find(|handler| !handler.is_batch());
            let span = odd.map_or_else(Span::call_site, |handler| handler.ident.span());
            let text = "either all handlers of a block take `&[Notification]`, or none does; use two blocks on two types";
            return Err(syn::Error::new(span, text));
        }
        Ok(Self {
            generics: block.generics.clone(),
            of: (*block.self_ty).clone(),
            handlers,
            is_batch: batches > 0,
        })
    }
}

impl Handler {
    fn is_batch(&self) -> bool {
        let mut parameters = self.parameters.iter();
        parameters.any(|parameter| matches!(parameter, Parameter::Notes))
    }
}

fn read(function: &mut ImplItemFn) -> syn::Result<Option<Handler>> {
    let marked = take_marks(&mut function.attrs)?;
    let name = function.sig.ident.to_string();
    let priorities = match marked {
        Some(priorities) => priorities,
        None => match variant(&name) {
            Some(variant) => vec![variant],
            None => return Ok(None),
        },
    };
    let receiver = function.sig.receiver();
    if !receiver.is_some_and(|it| it.reference.is_some() && it.mutability.is_none()) {
        let text = "a handler takes `&self`, since several run at the same time; keep what changes in a lock";
        return Err(syn::Error::new(function.sig.ident.span(), text));
    }
    let mut parameters = Vec::new();
    for input in &function.sig.inputs {
        if let FnArg::Typed(parameter) = input {
            parameters.push(parameter_of(&parameter.ty)?);
        }
    }
    let payloads = parameters.iter();
    let payloads = payloads.filter(|one| matches!(one, Parameter::Payload(..)));
    let lists = parameters.iter();
    let lists = lists.filter(|one| matches!(one, Parameter::Notes)).count();
    if payloads.count() > 1 {
        let text = "a handler reads the payload once: one parameter besides `&Notification`, `&Context` and `Priority`";
        return Err(syn::Error::new(function.sig.inputs.span(), text));
    }
    let only_notes = |one: &Parameter| matches!(one, Parameter::Notes | Parameter::Priority);
    if lists > 0 && !parameters.iter().all(only_notes) {
        let text = "a handler of batches takes `&[Notification]` and, if it wants to, `Priority`";
        return Err(syn::Error::new(function.sig.inputs.span(), text));
    }
    let is_condition = |attribute: &&Attribute| attribute.path().is_ident("cfg");
    Ok(Some(Handler {
        ident: function.sig.ident.clone(),
        priorities,
        is_async: function.sig.asyncness.is_some(),
        parameters,
        conditions: function
            .attrs
            .iter()
            .filter(is_condition)
            .cloned()
            .collect(),
    }))
}

fn variant(name: &str) -> Option<&'static str> {
    let mut known = PRIORITIES.iter();
    known
        .find(|(known, _)| *known == name)
        .map(|(_, variant)| *variant)
}

/// Takes `#[on(…)]` out, and gives the priorities it names.
fn take_marks(attributes: &mut Vec<Attribute>) -> syn::Result<Option<Vec<&'static str>>> {
    let mut found: Option<Vec<&'static str>> = None;
    let mut fault = None;
    attributes.retain(|attribute| {
        if !attribute.path().is_ident("on") {
            return true;
        }
        match attribute.parse_args_with(Punctuated::<Ident, Token![,]>::parse_terminated) {
            Ok(names) if names.is_empty() => {
                fault = Some(syn::Error::new(attribute.span(), "name the priorities: `#[on(info, …)]`"));
            }
            Ok(names) => {
                for name in names {
                    match variant(&name.to_string()) {
                        Some(variant) => found.get_or_insert_default().push(variant),
                        None => {
                            let text = format!("`{name}` is no priority; there are audit, critical, debug, error, info, sample and warn");
                            fault = Some(syn::Error::new(name.span(), text));
                        }
                    }
                }
            }
            Err(error) => fault = Some(error),
        }
        false
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(found),
    }
}

fn parameter_of(ty: &Type) -> syn::Result<Parameter> {
    let Type::Reference(reference) = ty else {
        return Ok(match last_name(ty) {
            Some(name) if name == "Priority" => Parameter::Priority,
            _ => Parameter::Payload(Box::new(ty.clone()), false),
        });
    };
    if reference.mutability.is_some() {
        let text = "what a handler is given is lent for reading";
        return Err(syn::Error::new(reference.span(), text));
    }
    let inner = &*reference.elem;
    if let Type::Slice(slice) = inner
        && last_name(&slice.elem).is_some_and(|name| name == "Notification")
    {
        return Ok(Parameter::Notes);
    }
    Ok(match last_name(inner) {
        Some(name) if name == "Notification" => Parameter::Note,
        Some(name) if name == "Context" => Parameter::Context,
        Some(name) if name == "str" => {
            Parameter::Payload(Box::new(syn::parse_quote!(::std::string::String)), true)
        }
        _ => Parameter::Payload(Box::new(inner.clone()), true),
    })
}
