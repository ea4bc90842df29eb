//! Prints the `impl Endpoint`.
//!
//! All paths begin at `::oslo_messaging`. They are public API, but for the reading and checking of arguments by
//! Python's rules, which is the facade's `__private`. Spans are those of the types concerned, so that the compiler's complaints point there.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit, Type};

use crate::types::shareable;

use super::attribute::Header;
use super::parse::{Absent, Answer, Argument, Block, Expected, Method};

/// The implementation for a whole block.
pub(crate) fn endpoint(header: &Header, block: &Block) -> TokenStream {
    let of = &block.of;
    let generics = shareable(of, &block.generics);
    let (parameters, _, clause) = generics.split_for_impl();
    let interface = interface(header);
    let infos = block.methods.iter().map(info);
    let calls = block
        .methods
        .iter()
        .map(|method| call(of, &block.name, method));
    quote! {
        #[automatically_derived]
        #[allow(clippy::all, unused_mut, unreachable_patterns)]
        impl #parameters ::oslo_messaging::rpc::endpoint::Endpoint for #of #clause {
            fn interface(&self) -> ::oslo_messaging::rpc::endpoint::Interface {
                #interface
            }

            fn method(
                &self,
                name: &str,
            ) -> ::core::option::Option<::oslo_messaging::rpc::endpoint::MethodInfo> {
                match name {
                    #(#infos)*
                    _ => ::core::option::Option::None,
                }
            }

            fn call<'a>(
                &'a self,
                context: &'a ::oslo_messaging::Context,
                mut invocation: ::oslo_messaging::rpc::endpoint::Invocation<'a>,
            ) -> ::oslo_messaging::driver::BoxFuture<
                'a,
                ::core::result::Result<::oslo_messaging::rpc::ReplyBody, ::oslo_messaging::RemoteError>,
            > {
                match invocation.method() {
                    #(#calls)*
                    _ => {
                        let failure = invocation.no_such_method();
                        ::std::boxed::Box::pin(::core::future::ready(::core::result::Result::Err(failure)))
                    }
                }
            }
        }
    }
}

fn interface(header: &Header) -> TokenStream {
    let namespace = header.namespace.iter();
    let version = header.version.iter();
    let legacy = header.legacy_namespaces.iter().map(|name| match name {
        Some(name) => quote!(.legacy_namespace(#name)),
        None => quote!(.legacy_null_namespace()),
    });
    quote! {
        ::oslo_messaging::rpc::endpoint::Interface::new()
            #(.namespace(#namespace))*
            #(.version(#version))*
            #(#legacy)*
    }
}

fn info(method: &Method) -> TokenStream {
    let Method {
        name, conditions, ..
    } = method;
    let info = if method.is_exposed {
        quote!(exposed)
    } else {
        quote!(new)
    };
    let blocks = method.blocks.then(|| quote!(.blocks()));
    let limit = method.limit.iter().map(|limit| {
        quote_spanned! {limit.span()=>
            .limited(const {
                match ::core::num::NonZeroUsize::new(#limit) {
                    ::core::option::Option::Some(limit) => limit,
                    ::core::option::Option::None => panic!("with a limit of 0 the method would never run"),
                }
            })
        }
    });
    quote! {
        #(#conditions)*
        #name => ::core::option::Option::Some(
            ::oslo_messaging::rpc::endpoint::MethodInfo::#info() #blocks #(#limit)*
        ),
    }
}

fn call(of: &Type, type_name: &str, method: &Method) -> TokenStream {
    let Method {
        ident,
        name,
        conditions,
        arguments,
        ..
    } = method;
    let whole_name = format!("{type_name}.{name}");
    // Parameters of the method may be called anything, `context` and `invocation` included.
    let locals: Vec<Ident> = (0..arguments.len())
        .map(|index| format_ident!("argument_{index}"))
        .collect();
    let with_locals = || arguments.iter().zip(&locals);
    let reads = with_locals().map(|(argument, local)| read(argument, local));
    let required = with_locals()
        .filter(|(argument, _)| is_required(argument))
        .map(|(argument, local)| {
            let name = &argument.name;
            quote!((#name, ::oslo_messaging::__private::is_missing(&#local)))
        });
    let unwraps = with_locals().map(|(argument, local)| unwrap(argument, local));
    let context = method.wants_context.then(|| quote!(context,));
    let passed = with_locals().map(|(argument, local)| pass(argument, local));
    let wait = method.is_async.then(|| quote!(.await));
    let run = quote_spanned!(ident.span()=> <#of>::#ident(self, #context #(#passed),*)#wait);
    let answer = answer(&method.answer, &method.expected, run);
    quote! {
        #(#conditions)*
        #name => ::std::boxed::Box::pin(async move {
            #(#reads)*
            ::oslo_messaging::__private::check_names(&invocation, #whole_name, &[#(#required),*])?;
            #(#unwraps)*
            #answer
        }),
    }
}

fn is_required(argument: &Argument) -> bool {
    matches!(argument.absent, Absent::Refused)
}

/// Takes an argument; whether that went well is looked at when all names are checked.
fn read(argument: &Argument, local: &Ident) -> TokenStream {
    let Argument { name, .. } = argument;
    let ty = owned(argument);
    quote_spanned! {argument.ty.span()=>
        let #local = ::oslo_messaging::__private::take::<#ty>(&mut invocation, #name);
    }
}

fn unwrap(argument: &Argument, local: &Ident) -> TokenStream {
    let default = match &argument.absent {
        Absent::Refused => return quote!(let #local = ::oslo_messaging::__private::given(#local)?;),
        Absent::None => quote!(|| ::core::option::Option::None),
        Absent::Default => quote_spanned!(argument.ty.span()=> ::core::default::Default::default),
        Absent::Expr(Expr::Lit(ExprLit {
            lit: Lit::Str(text),
            ..
        })) => {
            quote_spanned!(text.span()=> || ::core::convert::Into::into(#text))
        }
        Absent::Expr(default) => quote_spanned!(default.span()=> || #default),
    };
    quote!(let #local = #local?.unwrap_or_else(#default);)
}

/// The type that is read for an argument.
fn owned(argument: &Argument) -> TokenStream {
    let ty = &argument.ty;
    if argument.is_lent && is_unsized(ty) {
        quote_spanned!(ty.span()=> <#ty as ::std::borrow::ToOwned>::Owned)
    } else {
        quote!(#ty)
    }
}

fn pass(argument: &Argument, local: &Ident) -> TokenStream {
    let span = argument.ty.span();
    if !argument.is_lent {
        quote!(#local)
    } else if is_unsized(&argument.ty) {
        let ty = &argument.ty;
        quote_spanned!(span=> <<#ty as ::std::borrow::ToOwned>::Owned as ::std::borrow::Borrow<#ty>>::borrow(&#local))
    } else {
        quote_spanned!(span=> &#local)
    }
}

/// Types that only exist behind a reference, as far as a request can hold them.
fn is_unsized(ty: &Type) -> bool {
    match ty {
        Type::Slice(_) => true,
        Type::Path(path) => {
            path.path.is_ident("str")
                || path
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident == "Path")
        }
        _ => false,
    }
}

fn answer(answer: &Answer, expected: &Expected, run: TokenStream) -> TokenStream {
    match answer {
        Answer::Nothing => quote! {
            #run;
            ::oslo_messaging::__private::respond(&invocation, ())
        },
        Answer::Value(span) => {
            let respond = respond(*span);
            quote! {
                let result = #run;
                #respond
            }
        }
        Answer::Result(span) => {
            let respond = respond(*span);
            let fail = fail(*span, expected);
            quote! {
                match #run {
                    ::core::result::Result::Ok(result) => #respond,
                    ::core::result::Result::Err(error) => #fail,
                }
            }
        }
    }
}

/// From an error to the failure that is sent, with what caused it and whether it was to be expected.
fn fail(span: Span, expected: &Expected) -> TokenStream {
    let is_expected = match expected {
        Expected::None | Expected::Named(_) => quote!(false),
        Expected::All => quote!(true),
        Expected::Matching(pattern) => {
            quote_spanned!(pattern.span()=> ::core::matches!(&error, #pattern))
        }
    };
    let names = match expected {
        Expected::Named(names) => names.as_slice(),
        _ => &[],
    };
    let failure = quote_spanned! {span=>
        ::oslo_messaging::rpc::endpoint::IntoFailure::into_failure(error)
    };
    quote! {{
        let causes = {
            #[allow(unused_imports)]
            use ::oslo_messaging::__private::{CausesOfError as _, NoCauses as _};
            (&::oslo_messaging::__private::Causes(&error)).lines()
        };
        let is_expected = #is_expected;
        let failure = #failure;
        ::core::result::Result::Err(::oslo_messaging::__private::failed(failure, causes, is_expected, &[#(#names),*]))
    }}
}

fn respond(span: Span) -> TokenStream {
    quote_spanned!(span=> ::oslo_messaging::__private::respond(&invocation, result))
}
