//! Reads the methods of an `impl` block, and takes the macro's own attributes out of it.
//!
//! All faults of a block are reported together, each at its own place.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Expr, ExprLit, FnArg, GenericParam, Generics, Ident, ImplItem, ImplItemFn, ItemImpl,
    Lit, LitStr, Meta, Pat, PatType, ReturnType, Token, Type,
};

use crate::faults::Faults;
use crate::types::{is_context, last_name};

/// The methods of a block, and whose they are.
pub(crate) struct Block {
    pub(crate) generics: Generics,
    pub(crate) of: Type,
    /// The type's bare name, for messages.
    pub(crate) name: String,
    pub(crate) methods: Vec<Method>,
}

/// A method that callers reach.
pub(crate) struct Method {
    pub(crate) ident: Ident,
    /// The name callers use.
    pub(crate) name: String,
    pub(crate) is_async: bool,
    pub(crate) is_exposed: bool,
    /// Blocks its thread.
    pub(crate) blocks: bool,
    /// How many may run at once.
    pub(crate) limit: Option<Expr>,
    pub(crate) expected: Expected,
    /// Has `&Context` as its first parameter.
    pub(crate) wants_context: bool,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) answer: Answer,
    /// `#[cfg(…)]`, which the printed code repeats.
    pub(crate) conditions: Vec<Attribute>,
}

/// A parameter that is read from the request.
pub(crate) struct Argument {
    pub(crate) name: String,
    /// What is read; of a reference, what it refers to.
    pub(crate) ty: Type,
    pub(crate) is_lent: bool,
    pub(crate) absent: Absent,
}

/// What a missing argument means.
pub(crate) enum Absent {
    Refused,
    None,
    Default,
    Expr(Expr),
}

/// Which of a method's errors its server should expect.
#[derive(Default)]
pub(crate) enum Expected {
    #[default]
    None,
    All,
    Matching(Box<Pat>),
    Named(Vec<LitStr>),
}

/// What a method returns.
pub(crate) enum Answer {
    Nothing,
    Value(Span),
    Result(Span),
}

impl Block {
    /// Reads the block and takes the macro's attributes out of it, also if there are faults.
    pub(crate) fn take(block: &mut ItemImpl) -> syn::Result<Self> {
        let mut faults = Faults::default();
        if let Some((_, path, _)) = &block.trait_ {
            let text = "#[endpoint] serves the methods of a type, not of a trait: put it on `impl Type { … }`";
            faults.add(path.span(), text);
        }
        let mut methods: Vec<Method> = Vec::new();
        for item in &mut block.items {
            let ImplItem::Fn(function) = item else {
                continue;
            };
            let Some(method) = read_method(function, &mut faults) else {
                continue;
            };
            let twin = methods.iter().find(|known| known.name == method.name);
            // Of two under `#[cfg]` only one may exist; if both do, the compiler speaks up.
            if twin.is_some_and(|twin| twin.conditions.is_empty() && method.conditions.is_empty()) {
                faults.add(
                    method.ident.span(),
                    format!("two methods are called `{}` by callers", method.name),
                );
            }
            methods.push(method);
        }
        faults.into_result()?;
        let name = type_name(&block.self_ty);
        Ok(Self {
            generics: block.generics.clone(),
            of: (*block.self_ty).clone(),
            name,
            methods,
        })
    }
}

/// `None` for a method that is skipped or cannot be served.
fn read_method(function: &mut ImplItemFn, faults: &mut Faults) -> Option<Method> {
    let options = Options::take(&mut function.attrs, faults);
    if options.skip {
        return None;
    }
    let signature = &mut function.sig;
    check_receiver(signature, faults);
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            faults.add(
                parameter.span(),
                "a method that is called by name cannot have type parameters",
            );
        }
    }
    if let Some(variadic) = &signature.variadic {
        faults.add(
            variadic.span(),
            "a method that is called by name has named arguments only",
        );
    }
    let (wants_context, arguments) = read_arguments(signature, faults);
    let answer = read_answer(&signature.output);
    if let Some(span) = options.expected_at
        && !matches!(answer, Answer::Result(_))
    {
        faults.add(
            span,
            "only a method that returns a `Result` has errors to expect",
        );
    }
    Some(Method {
        ident: signature.ident.clone(),
        name: options
            .name
            .unwrap_or_else(|| signature.ident.unraw().to_string()),
        is_async: signature.asyncness.is_some(),
        is_exposed: options.exposed,
        blocks: options.blocks,
        limit: options.limit,
        expected: options.expected,
        wants_context,
        arguments,
        answer,
        conditions: function
            .attrs
            .iter()
            .filter(|attribute| attribute.path().is_ident("cfg"))
            .cloned()
            .collect(),
    })
}

fn check_receiver(signature: &syn::Signature, faults: &mut Faults) {
    const WAY_OUT: &str =
        "move other functions to an `impl` block of their own, or mark them `#[rpc(skip)]`";
    match signature.receiver() {
        None => faults.add(
            signature.ident.span(),
            format!("a remote method takes `&self`; {WAY_OUT}"),
        ),
        Some(receiver) if receiver.colon_token.is_some() || receiver.reference.is_none() => {
            faults.add(
                receiver.span(),
                format!("a remote method takes `&self`, since calls share it; {WAY_OUT}"),
            );
        }
        Some(receiver) if receiver.mutability.is_some() => {
            let text = "calls run at the same time, so a remote method takes `&self`; keep what changes in a lock";
            faults.add(receiver.span(), text);
        }
        Some(_) => {}
    }
}

fn read_arguments(signature: &mut syn::Signature, faults: &mut Faults) -> (bool, Vec<Argument>) {
    let mut wants_context = false;
    let mut arguments = Vec::new();
    let parameters = signature.inputs.iter_mut().filter_map(|input| match input {
        FnArg::Receiver(_) => None,
        FnArg::Typed(parameter) => Some(parameter),
    });
    for (position, parameter) in parameters.enumerate() {
        let default = take_default(&mut parameter.attrs, faults);
        if is_context(&parameter.ty) {
            wants_context = true;
            if position > 0 {
                faults.add(
                    parameter.ty.span(),
                    "the context is the first parameter after `&self`",
                );
            }
            if let Some((_, span)) = default {
                faults.add(span, "the context is always there and has no default");
            }
            continue;
        }
        if let Some(argument) = read_argument(parameter, default.map(|(absent, _)| absent), faults)
        {
            arguments.push(argument);
        }
    }
    (wants_context, arguments)
}

fn read_argument(
    parameter: &PatType,
    default: Option<Absent>,
    faults: &mut Faults,
) -> Option<Argument> {
    let name = match &*parameter.pat {
        Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
            pattern.ident.unraw().to_string()
        }
        other => {
            faults.add(
                other.span(),
                "callers send arguments by name, so this must be a plain name, not a pattern",
            );
            return None;
        }
    };
    let (ty, is_lent) = match &*parameter.ty {
        Type::Reference(reference) => {
            if reference.mutability.is_some() {
                faults.add(
                    reference.span(),
                    "an argument is lent for reading; take it by value to change it",
                );
            }
            ((*reference.elem).clone(), true)
        }
        Type::ImplTrait(other) => {
            faults.add(
                other.span(),
                "an argument is read from the request, so its type must be named",
            );
            return None;
        }
        other => (other.clone(), false),
    };
    let absent = default.unwrap_or(if last_name(&ty).is_some_and(|name| name == "Option") {
        Absent::None
    } else {
        Absent::Refused
    });
    Some(Argument {
        name,
        ty,
        is_lent,
        absent,
    })
}

fn read_answer(output: &ReturnType) -> Answer {
    match output {
        ReturnType::Default => Answer::Nothing,
        ReturnType::Type(_, ty) if last_name(ty).is_some_and(|name| name == "Result") => {
            Answer::Result(ty.span())
        }
        ReturnType::Type(_, ty) => Answer::Value(ty.span()),
    }
}

/// The macro's attributes on a method.
#[derive(Default)]
struct Options {
    name: Option<String>,
    skip: bool,
    exposed: bool,
    blocks: bool,
    limit: Option<Expr>,
    expected: Expected,
    expected_at: Option<Span>,
}

impl Options {
    fn take(attributes: &mut Vec<Attribute>, faults: &mut Faults) -> Self {
        let mut options = Self::default();
        attributes.retain(|attribute| {
            if attribute.path().is_ident("expose") {
                options.exposed = true;
                if let Err(error) = attribute.meta.require_path_only() {
                    faults.push(error);
                }
                false
            } else if attribute.path().is_ident("expected") {
                options.expected_at = Some(attribute.span());
                match read_expected(&attribute.meta) {
                    Ok(expected) => options.expected = expected,
                    Err(error) => faults.push(error),
                }
                false
            } else if attribute.path().is_ident("rpc") {
                if let Err(error) = options.read_rpc(attribute) {
                    faults.push(error);
                }
                false
            } else {
                true
            }
        });
        options
    }

    fn read_rpc(&mut self, attribute: &Attribute) -> syn::Result<()> {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                self.skip = true;
                Ok(())
            } else if meta.path.is_ident("blocking") {
                self.blocks = true;
                Ok(())
            } else if meta.path.is_ident("limit") {
                let limit: Expr = meta.value()?.parse()?;
                if let Expr::Lit(ExprLit {
                    lit: Lit::Int(number),
                    ..
                }) = &limit
                    && number.base10_parse::<u64>().is_ok_and(|number| number == 0)
                {
                    let text = "with a limit of 0 the method would never run";
                    return Err(syn::Error::new(number.span(), text));
                }
                self.limit = Some(limit);
                Ok(())
            } else if meta.path.is_ident("name") {
                let name: LitStr = meta.value()?.parse()?;
                if name.value().is_empty() {
                    return Err(syn::Error::new(
                        name.span(),
                        "a method's name cannot be empty",
                    ));
                }
                self.name = Some(name.value());
                Ok(())
            } else {
                Err(meta.error("#[rpc] takes `name = \"…\"`, `blocking`, `limit = 4` or `skip`"))
            }
        })
    }
}

fn read_expected(meta: &Meta) -> syn::Result<Expected> {
    match meta {
        Meta::Path(_) => Ok(Expected::All),
        Meta::List(list) => list.parse_args_with(|inside: ParseStream<'_>| {
            if inside.peek(LitStr) {
                let names = Punctuated::<LitStr, Token![,]>::parse_terminated(inside)?;
                return Ok(Expected::Named(names.into_iter().collect()));
            }
            let pattern = Pat::parse_multi_with_leading_vert(inside)?;
            Ok(Expected::Matching(Box::new(pattern)))
        }),
        Meta::NameValue(pair) => {
            let text = "write `#[expected]`, `#[expected(Error::Some(..) | Error::Other)]` or `#[expected(\"Class\")]`";
            Err(syn::Error::new(pair.span(), text))
        }
    }
}

fn take_default(attributes: &mut Vec<Attribute>, faults: &mut Faults) -> Option<(Absent, Span)> {
    let mut found = None;
    attributes.retain(|attribute| {
        if !attribute.path().is_ident("default") {
            return true;
        }
        let absent = match &attribute.meta {
            Meta::Path(_) => Absent::Default,
            Meta::NameValue(pair) => Absent::Expr(pair.value.clone()),
            Meta::List(list) => {
                faults.add(list.span(), "write `#[default]` or `#[default = value]`");
                Absent::Default
            }
        };
        found = Some((absent, attribute.span()));
        false
    });
    found
}

fn type_name(ty: &Type) -> String {
    last_name(ty).map_or_else(
        || quote::quote!(#ty).to_string(),
        |name| name.unraw().to_string(),
    )
}
