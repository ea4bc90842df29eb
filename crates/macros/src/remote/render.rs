//! Prints the implementations: reading from a remote exception, sending as one, and the conversions that go with them.
//!
//! All paths begin at `::oslo_messaging`. Spans are those of the fields' types, so that the compiler's complaints point there.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Ident, Type};

use super::attribute::ClassName;
use super::parse::{Exception, Field, Role, Subject};

/// Everything the derive adds.
pub(crate) fn implementations(subject: &Subject) -> TokenStream {
    let (from, into) = (from_remote(subject), into_failure(subject));
    let ident = &subject.ident;
    let other = subject.other.as_ref().map(|other| from_error(ident, other));
    quote! {
        #from
        #into
        #other

        #[automatically_derived]
        impl ::core::convert::From<#ident> for ::oslo_messaging::RemoteError {
            fn from(error: #ident) -> Self {
                ::oslo_messaging::IntoFailure::into_failure(error)
            }
        }
    }
}

fn from_remote(subject: &Subject) -> TokenStream {
    let ident = &subject.ident;
    let tries = subject.exceptions.iter().map(read);
    let rest = match &subject.unknown {
        None => quote!(::core::option::Option::None),
        Some((variant, ty)) => quote_spanned! {ty.span()=>
            ::core::option::Option::Some(
                Self::#variant(::oslo_messaging::__private::remote::CatchAll::catch(
                    ::core::clone::Clone::clone(remote),
                ))
            )
        },
    };
    quote! {
        #[automatically_derived]
        #[allow(clippy::all)]
        impl ::oslo_messaging::FromRemote for #ident {
            fn from_remote(
                remote: &::oslo_messaging::RemoteError,
            ) -> ::core::option::Option<Self> {
                let name = ::oslo_messaging::rpc::remote::RemoteName::of(remote);
                #(#tries)*
                #rest
            }
        }
    }
}

/// One exception: if the class is right and every field can be read, this is it.
fn read(exception: &Exception) -> TokenStream {
    let Exception { path, fields, .. } = exception;
    let names = std::iter::once(&exception.name).chain(&exception.aliases);
    let matches = names.map(|ClassName { module, class }| quote!(name.is(#module, #class)));
    let values = fields.iter().map(|field| {
        let (member, value) = (&field.member, read_field(field));
        quote!(#member: #value)
    });
    quote! {
        if #(#matches)||* {
            let read = || ::core::option::Option::Some(#path { #(#values,)* });
            if let ::core::option::Option::Some(own) = read() {
                return ::core::option::Option::Some(own);
            }
        }
    }
}

fn read_field(field: &Field) -> TokenStream {
    let ty = &field.ty;
    let span = ty.span();
    let found = match &field.role {
        Role::Skipped => return quote_spanned!(span=> ::core::default::Default::default()),
        Role::Message => {
            return quote_spanned! {span=>
                ::core::convert::From::from(::std::string::ToString::to_string(remote.message()))
            };
        }
        Role::Positional(index) => quote!(positional(remote, #index)),
        Role::Keyword(name) => quote!(keyword(remote, #name)),
    };
    let read = if field.default {
        quote!(defaulted)
    } else if is_option(ty) {
        quote!(nullable)
    } else {
        quote!(required)
    };
    quote_spanned! {span=>
        ::oslo_messaging::__private::remote::#read::<#ty>(::oslo_messaging::__private::remote::#found)?
    }
}

fn is_option(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Option"))
}

fn into_failure(subject: &Subject) -> TokenStream {
    let ident = &subject.ident;
    let method = |name: &str, of: fn(&Exception) -> TokenStream| {
        let name = Ident::new(name, proc_macro2::Span::call_site());
        let own = subject.exceptions.iter().map(of);
        let others = catch_alls(subject).map(|(variant, _)| {
            quote!(Self::#variant(inner) => ::oslo_messaging::IntoFailure::#name(inner),)
        });
        quote!(match self { #(#own)* #(#others)* })
    };
    let (class, module) = (method("class", class), method("module", module));
    let (args, kwargs) = (method("args", args), method("kwargs", kwargs));
    let passed = catch_alls(subject).map(|(variant, _)| {
        quote!(Self::#variant(inner) => ::oslo_messaging::IntoFailure::into_failure(inner),)
    });
    let own = (!subject.exceptions.is_empty())
        .then(|| quote!(own => ::oslo_messaging::__private::remote::failure(&own),));
    quote! {
        #[automatically_derived]
        #[allow(clippy::all, unused_variables)]
        impl ::oslo_messaging::IntoFailure for #ident {
            fn class(&self) -> ::std::borrow::Cow<'_, str> {
                #class
            }

            fn module(&self) -> ::std::borrow::Cow<'_, str> {
                #module
            }

            fn args(&self) -> ::std::vec::Vec<::oslo_messaging::Value> {
                #args
            }

            fn kwargs(&self) -> ::std::vec::Vec<(::std::string::String, ::oslo_messaging::Value)> {
                #kwargs
            }

            fn traceback(&self) -> ::std::vec::Vec<::std::string::String> {
                ::oslo_messaging::__private::remote::causes(self)
            }

            fn into_failure(self) -> ::oslo_messaging::RemoteError {
                match self { #(#passed)* #own }
            }
        }
    }
}

fn catch_alls(subject: &Subject) -> impl Iterator<Item = &(Ident, Type)> {
    subject.other.iter().chain(&subject.unknown)
}

fn class(exception: &Exception) -> TokenStream {
    let (path, class) = (&exception.path, &exception.name.class);
    quote!(#path { .. } => ::std::borrow::Cow::Borrowed(#class),)
}

fn module(exception: &Exception) -> TokenStream {
    let (path, module) = (&exception.path, &exception.name.module);
    quote!(#path { .. } => ::std::borrow::Cow::Borrowed(#module),)
}

fn args(exception: &Exception) -> TokenStream {
    let path = &exception.path;
    let has_arguments = exception
        .fields
        .iter()
        .any(|field| matches!(field.role, Role::Positional(_) | Role::Keyword(_)));
    if !has_arguments && !exception.no_args {
        return quote! {
            #path { .. } => ::std::vec![::oslo_messaging::Value::from(::std::string::ToString::to_string(self))],
        };
    }
    let (patterns, values) = sent(exception, |role, value| match role {
        Role::Positional(_) => Some(value),
        _ => None,
    });
    quote!(#path { #(#patterns,)* .. } => ::std::vec![#(#values),*],)
}

fn kwargs(exception: &Exception) -> TokenStream {
    let path = &exception.path;
    let (patterns, values) = sent(exception, |role, value| match role {
        Role::Keyword(name) => Some(quote!((::std::string::String::from(#name), #value))),
        _ => None,
    });
    quote!(#path { #(#patterns,)* .. } => ::std::vec![#(#values),*],)
}

/// Patterns that bind the fields `choose` picks, and what it makes of their values.
fn sent(
    exception: &Exception,
    choose: impl Fn(&Role, TokenStream) -> Option<TokenStream>,
) -> (Vec<TokenStream>, Vec<TokenStream>) {
    let chosen = exception
        .fields
        .iter()
        .enumerate()
        .filter_map(|(index, field)| {
            let local = quote::format_ident!("field_{index}");
            let value = quote_spanned! {field.ty.span()=>
                ::oslo_messaging::__private::remote::value(#local)
            };
            let member = &field.member;
            Some((quote!(#member: #local), choose(&field.role, value)?))
        });
    chosen.unzip()
}

fn from_error(ident: &Ident, (variant, ty): &(Ident, Type)) -> TokenStream {
    let rest = quote_spanned! {ty.span()=>
        Self::#variant(::oslo_messaging::__private::remote::CatchAll::catch(error))
    };
    quote! {
        #[automatically_derived]
        impl ::core::convert::From<::oslo_messaging::Error> for #ident {
            fn from(error: ::oslo_messaging::Error) -> Self {
                match ::oslo_messaging::FromRemote::from_error(error) {
                    ::core::result::Result::Ok(own) => own,
                    ::core::result::Result::Err(error) => #rest,
                }
            }
        }
    }
}
