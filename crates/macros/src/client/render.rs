//! Prints the struct and its methods.
//!
//! All paths begin at `::oslo_messaging`. They are public API, but for the writing of arguments, which is the facade's `__private`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Expr, ExprLit, Lit, Pat, Visibility};

use super::parse::{Answer, Api, Argument, Header, Method, Verb};

/// The client of an interface.
pub(crate) fn client(header: &Header, api: &Api) -> TokenStream {
    let Api {
        attributes,
        visibility,
        name,
        methods,
    } = api;
    let client = format_ident!("{name}Client");
    let namespace = header.namespace.iter();
    let version = header.version.iter();
    let methods = methods.iter().map(|one| method(one, visibility));
    quote! {
        #(#attributes)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #visibility struct #client {
            client: ::oslo_messaging::RpcClient,
        }

        #[allow(clippy::all, dead_code)]
        impl #client {
            /// A client of the interface's namespace and version, with everything else as it is set.
            #visibility fn new(client: ::oslo_messaging::RpcClient) -> Self {
                Self {
                    client: client #(.namespace(#namespace))* #(.version(#version))*,
                }
            }

            /// The client that sends.
            #visibility fn client(&self) -> &::oslo_messaging::RpcClient {
                &self.client
            }

            /// A variation with other options.
            #visibility fn prepare(
                &self,
                change: impl ::core::ops::FnOnce(::oslo_messaging::RpcClient) -> ::oslo_messaging::RpcClient,
            ) -> Self {
                Self {
                    client: change(self.client.prepare()),
                }
            }

            #(#methods)*
        }
    }
}

fn method(method: &Method, visibility: &Visibility) -> TokenStream {
    let Method {
        attributes,
        ident,
        name,
        generics,
        ..
    } = method;
    let (parameters, clause) = (&generics.params, &generics.where_clause);
    let (context, ctx) = match &method.context {
        Some(parameter) => {
            let pattern = match &*parameter.pat {
                // It is passed on, whatever the trait calls it.
                Pat::Ident(pattern) => pattern.ident.clone(),
                _ => format_ident!("ctx"),
            };
            let ty = &parameter.ty;
            (quote!(#pattern: #ty), quote!(#pattern))
        }
        None => (quote!(ctx: &::oslo_messaging::Context), quote!(ctx)),
    };
    let inputs = method
        .arguments
        .iter()
        .map(|Argument { ident, ty, .. }| quote!(#ident: #ty));
    let output = output(method);
    let puts = method.arguments.iter().map(|argument| put(argument, name));
    let options = options(method);
    let send = send(method, &ctx);
    quote! {
        #(#attributes)*
        #visibility async fn #ident<#parameters>(&self, #context, #(#inputs),*) -> #output #clause {
            let mut __arguments = ::oslo_messaging::__private::Arguments::default();
            #(#puts)*
            let __client = self.client.prepare() #options;
            #send
        }
    }
}

fn output(method: &Method) -> TokenStream {
    match &method.answer {
        Answer::Nothing => quote!(::oslo_messaging::Result<()>),
        Answer::Value(ty) => quote_spanned!(ty.span()=> ::oslo_messaging::Result<#ty>),
        Answer::Result(ty) => quote!(#ty),
    }
}

fn put(argument: &Argument, method: &str) -> TokenStream {
    let Argument {
        ident,
        ty,
        optional,
    } = argument;
    let name = ident.unraw().to_string();
    let put = quote_spanned! {ty.span()=>
        __arguments.put(#method, #name, &#ident)?;
    };
    if *optional {
        quote! {
            if ::core::option::Option::is_some(&#ident) {
                #put
            }
        }
    } else {
        put
    }
}

fn options(method: &Method) -> TokenStream {
    let version = method.version.iter();
    let timeout = method.timeout.as_ref().map(timeout);
    let fanout = (method.verb == Verb::Fanout).then(|| quote!(.fanout(true)));
    let idempotent = method.idempotent.then(|| quote!(.idempotent(true)));
    quote!(#(.version(#version))* #timeout #fanout #idempotent)
}

/// A number means seconds, all else is a `Duration`.
fn timeout(timeout: &Expr) -> TokenStream {
    match timeout {
        Expr::Lit(ExprLit {
            lit: Lit::Int(seconds),
            ..
        }) => quote!(.timeout(::core::time::Duration::from_secs(#seconds))),
        Expr::Lit(ExprLit {
            lit: Lit::Float(seconds),
            ..
        }) => quote!(.timeout(::core::time::Duration::from_secs_f64(#seconds))),
        other => quote_spanned!(other.span()=> .timeout(#other)),
    }
}

fn send(method: &Method, ctx: &TokenStream) -> TokenStream {
    let name = &method.name;
    match (&method.answer, method.verb) {
        (Answer::Nothing, Verb::Call) => quote! {
            __client
                .call::<_, ::oslo_messaging::__private::Anything>(#ctx, #name, __arguments)
                .await
                .map(|_| ())
        },
        (Answer::Result(_), Verb::Call) => quote! {
            __client
                .call(#ctx, #name, __arguments)
                .await
                .map_err(::core::convert::Into::into)
        },
        (Answer::Value(_), Verb::Call) => quote!(__client.call(#ctx, #name, __arguments).await),
        (Answer::Result(_), _) => quote! {
            __client
                .cast(#ctx, #name, __arguments)
                .await
                .map_err(::core::convert::Into::into)
        },
        _ => quote!(__client.cast(#ctx, #name, __arguments).await),
    }
}
