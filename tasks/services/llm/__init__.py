"""Language-model servers behind one OpenAI-compatible door: started, asked, stopped; and the client for all."""
