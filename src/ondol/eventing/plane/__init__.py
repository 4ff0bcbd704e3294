"""The data plane: takes events in, keeps them in the journal, and delivers them. The process `events`.

`ingress` and `dispatch` are its two ends; `plane` has them serve what the API's objects say.
"""
