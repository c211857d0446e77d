"""Types and graphs of networks. Import from the modules: dnnc.ir.types, dnnc.ir.graph."""
